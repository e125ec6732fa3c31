//! Tokens: system and code in all their forms, of every data type that has them (search.html#token).

use super::Table;
use crate::check::Check;

#[rustfmt::skip]
const CODES: Table = Table {
    id: "search/token",
    section: "search.html#token",
    kind: "Observation",
    common: r#"{"status": "final"}"#,
    data: &[
        ("one", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "x", "display": "Heart rate"}], "text": "Pulse of the heart"}}"#),
        ("other-system", r#"{"code": {"coding": [{"system": "urn:conformance:b", "code": "x"}]}}"#),
        ("no-system", r#"{"code": {"coding": [{"code": "x"}]}}"#),
        ("two", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "y"}, {"system": "urn:conformance:b", "code": "z"}]}, "status": "amended"}"#),
        ("no-code", r#"{"code": {"coding": [{"system": "urn:conformance:a", "display": "No code"}]}}"#),
        ("text", r#"{"code": {"text": "Weight of the body"}, "status": "preliminary"}"#),
        ("comma", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p,q"}]}}"#),
        ("pipe", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p|q"}]}}"#),
        ("dollar", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p$q"}]}}"#),
        ("backslash", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p\\q"}]}}"#),
        ("plus", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p+q"}]}}"#),
        ("percent", r#"{"code": {"coding": [{"system": "urn:conformance:a", "code": "p%41q"}]}}"#),
        ("category", r#"{"code": {"text": "c"}, "category": [{"coding": [{"system": "urn:conformance:c", "code": "k1"}]}, {"coding": [{"system": "urn:conformance:c", "code": "k2"}]}]}"#),
    ],
    queries: &[
        ("code", "code=x", "one other-system no-system"),
        ("system-and-code", "code=urn:conformance:a|x", "one"),
        ("another-system", "code=urn:conformance:b|x", "other-system"),
        ("no-system", "code=|x", "no-system"),
        ("system-alone", "code=urn:conformance:b|", "other-system two"),
        ("first-coding", "code=urn:conformance:a|y", "two"),
        ("second-coding", "code=urn:conformance:b|z", "two"),
        ("not-across-codings", "code=urn:conformance:a|z", ""),
        ("or", "code=urn:conformance:a|x,urn:conformance:b|z", "one two"),
        ("or-of-forms", "code=|x,urn:conformance:b|", "no-system other-system two"),
        ("and-in-one-resource", "code=y&code=z", "two"),
        ("and-nothing", "code=x&code=y", ""),
        ("whole-code-only", "code=urn:conformance:a|", "one two no-code comma pipe dollar backslash plus percent"),
        ("no-prefix-match", "code=p", ""),
        ("text-is-no-code", "code=Weight", ""),
        ("display-is-no-code", "code=Heart rate", ""),
        ("unknown-system", "code=urn:nobody|x", ""),
        ("escaped-comma", r"code=urn:conformance:a|p\,q", "comma"),
        ("escaped-pipe", r"code=urn:conformance:a|p\|q", "pipe"),
        ("escaped-dollar", r"code=urn:conformance:a|p\$q", "dollar"),
        ("escaped-backslash", r"code=urn:conformance:a|p\\q", "backslash"),
        ("escaped-in-or", r"code=urn:conformance:a|p\,q,urn:conformance:a|x", "comma one"),
        ("plus", "code=urn:conformance:a|p+q", "plus"),
        ("percent-sign", "code=urn:conformance:a|p%41q", "percent"),
        ("not", "code:not=x", "two no-code text comma pipe dollar backslash plus percent category"),
        ("not-with-system", "code:not=urn:conformance:a|x&code=x", "other-system no-system"),
        ("not-of-two-codings", "code:not=urn:conformance:a|y&code=urn:conformance:b|", "other-system"),
        ("not-includes-missing", "category:not=urn:conformance:c|k1&code=x", "one other-system no-system"),
        ("not-of-repeated", "category:not=urn:conformance:c|k1&code:text=c", ""),
        ("status", "status=amended", "two"),
        ("status-or", "status=amended,preliminary", "two text"),
        ("status-with-system", "status=http://hl7.org/fhir/observation-status|amended", "two"),
        ("status-not", "status:not=final", "two text"),
        ("category-first", "category=k1", "category"),
        ("category-second", "category=urn:conformance:c|k2", "category"),
        ("missing", "category:missing=false", "category"),
        ("missing-true", "category:missing=true&code=x", "one other-system no-system"),
        ("text-of-concept", "code:text=Pulse", "one"),
        ("text-of-concept-case", "code:text=weight of", "text"),
        ("text-of-display", "code:text=heart", "one"),
        ("text-is-not-the-code", "code:text=urn:conformance", ""),
        ("two-parameters", "code=x&status=final", "one other-system no-system"),
        ("bad-missing", "code:missing=perhaps", "!"),
    ],
};

#[rustfmt::skip]
const IDENTITIES: Table = Table {
    id: "search/token-types",
    section: "search.html#token",
    kind: "Patient",
    common: "{}",
    data: &[
        ("anna", r#"{"active": true, "gender": "female", "identifier": [{"system": "urn:conformance:mrn", "value": "A1", "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}], "text": "Hospital number"}}], "telecom": [{"system": "phone", "value": "555-0100"}, {"system": "email", "value": "anna@example.org"}]}"#),
        ("bert", r#"{"active": false, "gender": "male", "identifier": [{"system": "urn:conformance:mrn", "value": "B2", "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "SS"}]}}, {"value": "A1"}], "deceasedBoolean": false}"#),
        ("cora", r#"{"gender": "female", "deceasedDateTime": "2020-01-01", "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "nl"}]}}]}"#),
        ("dora", r#"{"deceasedBoolean": true, "identifier": [{"system": "urn:conformance:other", "value": "A1"}]}"#),
    ],
    queries: &[
        ("identifier", "identifier=urn:conformance:mrn|A1", "anna"),
        ("identifier-value", "identifier=A1", "anna bert dora"),
        ("identifier-no-system", "identifier=|A1", "bert"),
        ("identifier-system", "identifier=urn:conformance:mrn|", "anna bert"),
        ("identifier-or", "identifier=urn:conformance:mrn|A1,urn:conformance:mrn|B2", "anna bert"),
        ("identifier-not", "identifier:not=A1", "cora"),
        ("identifier-missing", "identifier:missing=true", "cora"),
        ("of-type", "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|A1", "anna"),
        ("of-type-other", "identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|SS|A1", ""),
        ("of-type-incomplete", "identifier:of-type=MR|A1", "!"),
        ("boolean-true", "active=true", "anna"),
        ("boolean-false", "active=false", "bert"),
        ("boolean-not", "active:not=true", "bert cora dora"),
        ("boolean-missing", "active:missing=true", "cora dora"),
        ("code", "gender=female", "anna cora"),
        ("code-or", "gender=female,male", "anna bert cora"),
        ("code-not", "gender:not=female", "bert dora"),
        ("code-with-system", "gender=http://hl7.org/fhir/administrative-gender|male", "bert"),
        ("deceased-true", "deceased=true", "cora dora"),
        ("deceased-false", "deceased=false", "anna bert"),
        ("contact-point", "telecom=555-0100", "anna"),
        ("contact-point-system", "telecom=phone|555-0100", "anna"),
        ("contact-point-other-system", "telecom=fax|555-0100", ""),
        ("phone", "phone=555-0100", "anna"),
        ("phone-is-no-email", "phone=anna@example.org", ""),
        ("email", "email=anna@example.org", "anna"),
        ("language", "language=urn:ietf:bcp:47|nl", "cora"),
        ("id", "_id=<bert.id>", "bert"),
        ("id-or", "_id=<anna.id>,<dora.id>", "anna dora"),
        ("id-not", "_id:not=<anna.id>", "bert cora dora"),
        ("id-nobody", "_id=nobody-has-this-id", ""),
    ],
};

#[rustfmt::skip]
const CODINGS: Table = Table {
    id: "search/token-coding",
    section: "search.html#token",
    kind: "Encounter",
    common: "{}",
    data: &[
        ("amb", r#"{"status": "finished", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}}"#),
        ("emer", r#"{"status": "in-progress", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}, "type": [{"coding": [{"system": "urn:conformance:t", "code": "v"}]}]}"#),
    ],
    queries: &[
        ("coding", "class=AMB", "amb"),
        ("coding-system", "class=http://terminology.hl7.org/CodeSystem/v3-ActCode|EMER", "emer"),
        ("coding-not", "class:not=AMB", "emer"),
        ("status-hyphen", "status=in-progress", "emer"),
        ("type", "type=urn:conformance:t|v", "emer"),
        ("type-not", "type:not=urn:conformance:t|v", "amb"),
    ],
};

#[rustfmt::skip]
const VALUE_SETS: Table = Table {
    id: "search/token-value-set",
    section: "search.html#token",
    kind: "Observation",
    common: r#"{"status": "final"}"#,
    data: &[
        ("one", r#"{"code": {"coding": [{"system": "urn:conformance:v", "code": "1"}]}}"#),
        ("two", r#"{"code": {"coding": [{"system": "urn:conformance:v", "code": "2"}]}}"#),
        ("foreign", r#"{"code": {"coding": [{"system": "urn:conformance:w", "code": "1"}]}}"#),
        (".set", r#"{"resourceType": "ValueSet", "url": "http://example.org/<run>/set", "status": "draft", "compose": {"include": [{"system": "urn:conformance:v", "concept": [{"code": "1"}, {"code": "3"}]}]}}"#),
    ],
    queries: &[
        ("in", "code:in=http://example.org/<run>/set", "one"),
        ("in-by-reference", "code:in=<set>", "one"),
        ("not-in", "code:not-in=http://example.org/<run>/set", "two foreign"),
        ("in-unknown", "code:in=http://example.org/<run>/nobody", "!"),
    ],
};

pub(crate) fn checks() -> Vec<Check> {
    [&CODES, &IDENTITIES, &CODINGS, &VALUE_SETS].into_iter().flat_map(Table::checks).collect()
}
