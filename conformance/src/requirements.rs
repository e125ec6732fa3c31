//! What the project was asked to hold, and the checks that hold it: by the beginnings of their ids.

/// A requirement.
pub(crate) struct Requirement {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// Beginnings of ids; each names at least one check.
    pub(crate) checks: &'static [&'static str],
}

/// One of them.
pub(crate) const fn asked(
    id: &'static str,
    what: &'static str,
    checks: &'static [&'static str],
) -> Requirement {
    Requirement { id, what, checks }
}

/// The ids of the requirements that a check holds.
pub(crate) fn of(check: &str) -> Vec<&'static str> {
    let holds = |one: &&Requirement| one.checks.iter().any(|prefix| check.starts_with(prefix));
    all().filter(holds).map(|one| one.id).collect()
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Requirement> {
    OURS.iter().chain(crate::smart::requirements::ALL).chain(crate::subscriptions::requirements::ALL)
}

const OURS: &[Requirement] = &[
    asked(
        "us-core/conformance-support",
        "CapabilityStatement without a token, FHIR 4.0.1, JSON",
        &["us-core/conformance/no-token", "us-core/conformance/fhir-version", "us-core/conformance/json"],
    ),
    asked(
        "us-core/profile-support",
        "us-core-patient and another profile supported, us-core-server instantiated, TLS",
        &[
            "us-core/conformance/patient-profile",
            "us-core/conformance/another-profile",
            "us-core/conformance/instantiates",
            "us-core/tls",
        ],
    ),
    asked(
        "us-core/observation-lab/searches",
        "patient with category, code, date, status, _lastUpdated in the six combinations",
        &[
            "us-core/observation-lab/patient-category",
            "us-core/observation-lab/patient-code",
            "us-core/observation-lab/patient-category-date",
            "us-core/observation-lab/patient-code-date",
            "us-core/observation-lab/patient-category-status",
            "us-core/observation-lab/patient-category-last-updated",
        ],
    ),
    asked(
        "us-core/observation-lab/same-by-post",
        "POST _search finds what GET finds",
        &["us-core/observation-lab/patient-category-by-post", "search/pages/by-post"],
    ),
    asked(
        "us-core/observation-lab/reference-forms",
        "patient=ID, patient=Patient/ID and the absolute address are one",
        &[
            "us-core/observation-lab/patient-code-by-reference",
            "us-core/observation-lab/patient-code-by-absolute",
        ],
    ),
    asked(
        "us-core/observation-lab/system-and-code",
        "system|code finds",
        &["us-core/observation-lab/patient-category-system", "us-core/observation-lab/patient-code-system"],
    ),
    asked(
        "us-core/observation-lab/comparators",
        "gt, ge, lt, le on date",
        &[
            "us-core/observation-lab/patient-category-date-gt",
            "us-core/observation-lab/patient-category-date-ge",
            "us-core/observation-lab/patient-category-date-lt",
            "us-core/observation-lab/patient-category-date-le",
        ],
    ),
    asked(
        "us-core/observation-lab/multiple-or",
        "several values of status",
        &[
            "us-core/observation-lab/patient-category-status-or",
            "us-core/observation-lab/patient-category-status-all",
        ],
    ),
    asked(
        "us-core/observation-lab/rechecked",
        "each returned resource is checked against the query, on all pages",
        &["us-core/observation-lab/patient-", "us-core/observation-lab/pages"],
    ),
    asked(
        "us-core/observation-lab/without-status",
        "400 without status only with an OperationOutcome",
        &["us-core/observation-lab/without-status"],
    ),
    asked(
        "us-core/observation-lab/read",
        "read gives the id that was asked for",
        &["us-core/observation-lab/read"],
    ),
    asked(
        "us-core/observation-lab/provenance",
        "_revinclude=Provenance:target",
        &["us-core/observation-lab/revinclude-provenance"],
    ),
    asked(
        "us-core/observation-lab/validation",
        "what is returned is valid",
        &["us-core/observation-lab/validation"],
    ),
    asked(
        "us-core/observation-lab/must-support",
        "elements that must be supported come back",
        &["us-core/observation-lab/must-support", "us-core/observation-lab/data-absent-reason"],
    ),
    asked(
        "us-core/observation-lab/references",
        "references resolve by read",
        &["us-core/observation-lab/reference-resolution"],
    ),
    asked("us-core/tls-versions", "TLS with a verified certificate", &["us-core/tls"]),
    asked(
        "us-core/patient-compartment",
        "what is in a Patient's compartment and what is not",
        &["search/compartment/"],
    ),
    asked(
        "us-core/parameters",
        "search parameters of RiskAssessment, Observation, Subscription, AuditEvent",
        &[
            "us-core/parameter/RiskAssessment",
            "us-core/parameter/Observation",
            "us-core/parameter/Subscription",
            "us-core/parameter/AuditEvent",
        ],
    ),
    asked(
        "edge/rest-01",
        "racing conditional creates make one resource; many matches are 412",
        &["conditional/create/race", "conditional/create/many", "conditional/update/race"],
    ),
    asked(
        "edge/rest-02",
        "one ifNoneExist in two entries makes one resource; both fullUrls become it",
        &["bundle/reference/same-if-none-exist"],
    ),
    asked(
        "edge/rest-03",
        "references in a transaction are rewritten everywhere; foreign ones are left alone",
        &["bundle/reference/"],
    ),
    asked(
        "edge/rest-04",
        "order DELETE, POST, PUT, GET; a resource twice is refused; rollback is whole",
        &["bundle/transaction/delete-before-create", "bundle/transaction/reads-last", "bundle/rollback/"],
    ),
    asked("edge/rest-05", "batch entries stand alone, in order", &["bundle/batch/"]),
    asked(
        "edge/rest-06",
        "If-Match, ids in the body, updates without a change",
        &["http/update/if-match", "http/update/other-id", "http/update/no-id", "http/update/unchanged"],
    ),
    asked(
        "edge/rest-07",
        "410 of what was deleted, also by version; 404 of what never was; the ETag of a delete",
        &["http/delete/gone", "http/delete/deleted-version", "http/read/never-was"],
    ),
    asked("edge/rest-08", "decimals digit for digit", &["formats/decimal/"]),
    asked(
        "edge/rest-09",
        "wrong media types, types, JSON: 4xx with an OperationOutcome, on every route",
        &["errors/body/", "errors/type/", "errors/route/", "http/method/"],
    ),
    asked(
        "edge/rest-10",
        "what the client may not set is ignored; Prefer; narrative; Location",
        &["http/create/ignores-", "http/prefer/", "errors/narrative/", "http/create/location"],
    ),
    asked(
        "edge/search-01",
        "dates by precision on both sides, open Periods, all prefixes",
        &["search/date/", "search/period/", "search/birthdate/"],
    ),
    asked(
        "edge/search-02",
        "time zones and seconds",
        &["search/date/eq-offset", "search/date/eq-second-zero", "search/date/ge-offset"],
    ),
    asked("edge/search-03", "Period and Timing are indexed", &["search/period/eq-", "search/period/timing-"]),
    asked(
        "edge/search-04",
        "quantities: precision, exponents, units, prefixes; composites of one component",
        &["search/quantity/", "search/number/", "search/composite/same-component"],
    ),
    asked(
        "edge/search-05",
        "pages are stable under equal keys, missing values, writes and deletes",
        &[
            "search/pages/same-",
            "search/pages/writes-between",
            "search/pages/deletes-between",
            "search/sort-missing/",
        ],
    ),
    asked(
        "edge/search-06",
        "includes: mode, not counted, none deleted, circles end, wildcard, of each page",
        &["search/include/"],
    ),
    asked(
        "edge/search-07",
        "next links keep all parameters, also of a POST; none at the end",
        &["search/pages/next-", "search/pages/no-next-at-the-end", "search/pages/total-none"],
    ),
    asked(
        "edge/search-08",
        "tokens in all forms; :not includes what has no value and nothing that is deleted",
        &["search/token/", "search/token-types/", "search/read-your-writes/delete"],
    ),
    asked(
        "edge/search-09",
        "escapes, percent-encoding, accents, long values, thousands of parameters",
        &["search/encoding/", "search/token/escaped-", "search/string/accent-", "search/limits/"],
    ),
    asked(
        "edge/search-10",
        "strict and lenient, bad dates, _count=0, SUBSETTED, forms of a reference",
        &[
            "search/strict/",
            "search/lenient/",
            "search/refused/",
            "search/pages/count-zero",
            "search/view/",
            "search/reference/",
        ],
    ),
];
