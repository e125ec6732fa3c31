//! FHIR XML by hand: what it becomes in JSON, and each kind of fault with its place.

use std::path::{Path, PathBuf};

use fhir::json::{Json, Limits, parse};
use fhir::xml::{Layout, read, write};

const DIV: &str = "http://www.w3.org/1999/xhtml";

fn json(text: &str) -> Json<'_> {
    parse(text.as_bytes(), &Limits::default()).unwrap_or(Json::Null)
}

fn patient(inner: &str) -> String {
    format!("<Patient xmlns=\"http://hl7.org/fhir\">{inner}</Patient>")
}

/// The JSON of it, or its issues as `code expression: details`.
fn outcome(xml: &str) -> String {
    match read(xml.as_bytes(), &Limits::default()) {
        Ok(resource) => resource.to_text(),
        Err(issues) => {
            let lines = issues.0.iter().map(|i| format!("{} {}: {}", i.code, i.expression, i.details));
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn each_kind_of_element_has_its_form_in_json() {
    let xml = r##"<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<?xml-stylesheet href="x.xsl"?><!-- before -->
<Observation xmlns="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://hl7.org/fhir observation.xsd">
  <id value="o1"><extension url="http://x"><valueCode value="a"/></extension></id>
  <text>
    <status value='generated'/>
    <div xmlns="http://www.w3.org/1999/xhtml"> hi <b>x</b> &amp; &#169; </div>
  </text>
  <contained><Patient><id value="p"/><active value="true"/></Patient></contained>
  <extension url="http://y" id="e1"><extension url="in"><valueDecimal value="1.10"/></extension></extension>
  <status value="final"/>
  <category><!-- one --><coding id="c"><code value="a"/></coding><coding><userSelected value="false"/></coding></category>
  <code><text value="a&lt;b &quot;c&quot; &#10;d
e"/></code>
  <subject><reference value="#p"/></subject>
  <effectiveDateTime id="when" value="2024-01-01"/>
  <valueQuantity><value value="-1.50e+3"/><unit value="mg"/></valueQuantity>
  <component><code><text value="1"/></code><valueInteger value="5"/></component>
  <component><code><text value="2"/></code><valueSampledData><origin><value value="0"/></origin><period value="10"/><dimensions value="1"/></valueSampledData></component>
</Observation>
<!-- after -->"##;
    let wanted = r##"{"resourceType":"Observation","id":"o1","_id":{"extension":[{"url":"http://x","valueCode":"a"}]},
      "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"> hi <b>x</b> &amp; &#169; </div>"},
      "contained":[{"resourceType":"Patient","id":"p","active":true}],
      "extension":[{"url":"http://y","id":"e1","extension":[{"url":"in","valueDecimal":1.10}]}],
      "status":"final",
      "category":[{"coding":[{"id":"c","code":"a"},{"userSelected":false}]}],
      "code":{"text":"a<b \"c\" \nd e"},
      "subject":{"reference":"#p"},
      "effectiveDateTime":"2024-01-01","_effectiveDateTime":{"id":"when"},
      "valueQuantity":{"value":-1.50e+3,"unit":"mg"},
      "component":[{"code":{"text":"1"},"valueInteger":5},
        {"code":{"text":"2"},"valueSampledData":{"origin":{"value":0},"period":10,"dimensions":1}}]}"##;
    assert_eq!(outcome(xml), json(wanted).to_text());
}

#[test]
fn repeating_primitives_are_padded_with_null() {
    let extension = "<extension url=\"http://x\"><valueString value=\"y\"/></extension>";
    let name = |given: &str| outcome(&patient(&format!("<name>{given}</name>")));
    let padded = r#"{"resourceType":"Patient","name":[{"given":["a",null,"c"],"_given":[null,{"extension":[{"url":"http://x","valueString":"y"}]},{"id":"i"}]}]}"#;
    assert_eq!(
        name(&format!("<given value=\"a\"/><given>{extension}</given><given id=\"i\" value=\"c\"/>")),
        padded
    );
    let without = r#"{"resourceType":"Patient","name":[{"_given":[{"extension":[{"url":"http://x","valueString":"y"}]}]}]}"#;
    assert_eq!(name(&format!("<given>{extension}</given>")), without);
    assert_eq!(name("<given value=\"a\"/>"), r#"{"resourceType":"Patient","name":[{"given":["a"]}]}"#);
}

#[test]
fn resources_lie_in_bundles_and_parameters() {
    let xml = "<Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"batch-response\"/><entry><resource>\
        <Parameters xmlns=\"http://hl7.org/fhir\"><parameter><name value=\"a\"/><part><name value=\"b\"/>\
        <resource><Binary><contentType value=\"a/b\"/></Binary></resource></part></parameter></Parameters></resource>\
        <response><status value=\"200\"/><outcome><Basic/></outcome></response></entry></Bundle>";
    let wanted = r#"{"resourceType":"Bundle","type":"batch-response","entry":[{"resource":{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","resource":{"resourceType":"Binary","contentType":"a/b"}}]}]},"response":{"status":"200","outcome":{"resourceType":"Basic"}}}]}"#;
    assert_eq!(outcome(xml), wanted);
    let scenario = "<ExampleScenario xmlns=\"http://hl7.org/fhir\"><status value=\"draft\"/><instance>\
        <resourceId value=\"a\"/><resourceType value=\"Patient\"/></instance></ExampleScenario>";
    let wanted = r#"{"resourceType":"ExampleScenario","status":"draft","instance":[{"resourceId":"a","resourceType":"Patient"}]}"#;
    assert_eq!(outcome(scenario), wanted);
}

#[test]
fn a_narrative_stands_on_its_own_in_json() {
    let text = |div: &str| {
        let xml = format!(
            "<f:Patient xmlns:f=\"http://hl7.org/fhir\" xmlns:h=\"{DIV}\"><f:text><f:status value=\"generated\"/>{div}</f:text></f:Patient>"
        );
        read(xml.as_bytes(), &Limits::default())
            .map(|resource| {
                resource.at(&["text", "div"]).and_then(Json::as_str).unwrap_or_default().to_owned()
            })
            .map_err(|issues| issues.to_string())
    };
    let div = |inner: &str| format!("<div xmlns=\"{DIV}\">{inner}</div>");
    let same = div(" a<!-- b --><br/><p\n title='\"'>&lt;&#xA9;</p> <![CDATA[<]]>\n");
    assert_eq!(text(&same), Ok(same.clone()));
    assert_eq!(text(&div("a\r\nb\rc")), Ok(div("a\nb\nc")));
    assert_eq!(
        text("<h:div><h:p xml:lang=\"en\" class='\"'>a &amp; b</h:p><h:br /></h:div>"),
        Ok(div("<p xml:lang=\"en\" class='\"'>a &amp; b</p><br/>"))
    );
    assert_eq!(text(&format!("<div xmlns=\"{DIV}\"><h:b>x</h:b></div>")), Ok(div("<b>x</b>")));
    assert_eq!(text(&format!("<n:div xmlns:n=\"{DIV}\"><n:p></n:p>a</n:div>")), Ok(div("<p></p>a")));
    for bad in [
        div("<p>a</b>"),
        div("&nbsp;"),
        div("&#1;"),
        div("<p a=\"&x;\">b</p>"),
        div("<p a=\"<\">b</p>"),
        div("<p a='1'b='2'>b</p>"),
        div("<p a='1' a='2'>b</p>"),
        div("<?x y?>"),
        div("<!DOCTYPE x>"),
        div("a ]]> b"),
        div("<!-- a -- b -->"),
        div("<!-- a --->"),
        div("<f:p>x</f:p>"),
        div("<x:p>x</x:p>"),
        div("<p xmlns=\"\">x</p>"),
        div("<p f:a=\"x\">x</p>"),
        div(&"<p>".repeat(300)),
        "<div>x</div>".to_owned(),
        format!("<p xmlns=\"{DIV}\">x</p>"),
    ] {
        assert!(text(&bad).is_err(), "{bad}");
    }
}

#[test]
fn each_fault_has_its_place() {
    for (inner, wanted) in [
        ("<bogus/>", "structure Patient.bogus: unknown element at line 1 column 38"),
        (
            "\n  <birthDate/>",
            "structure Patient.birthDate: an element has a value, or children at line 2 column 3",
        ),
        (
            "<contact><name/></contact>",
            "structure Patient.contact[0].name: an element has a value, or children at line 1 column 47",
        ),
        ("<name>Chen</name>", "structure Patient.name[0]: text is not allowed here at line 1 column 44"),
        (
            "<active value=\"true\">x</active>",
            "structure Patient.active: text is not allowed here at line 1 column 59",
        ),
        (
            "<name><![CDATA[ ]]></name>",
            "structure Patient.name[0]: text is not allowed here at line 1 column 44",
        ),
        ("<name>&#32;</name>", "structure Patient.name[0]: text is not allowed here at line 1 column 44"),
        ("<active value=\"1\"/>", "value Patient.active: a boolean is needed at line 1 column 38"),
        (
            "<multipleBirthInteger value=\"01\"/>",
            "value Patient.multipleBirth: a number is needed at line 1 column 38",
        ),
        (
            "<birthDate valeu=\"2000\" id=\"x\"/>",
            "structure Patient.birthDate.valeu: unknown attribute at line 1 column 38",
        ),
        (
            "<name value=\"x\"><text value=\"y\"/></name>",
            "structure Patient.name[0].value: unknown attribute at line 1 column 38",
        ),
        (
            "<active value=\"true\" xml:lang=\"en\"/>",
            "structure Patient.active.xml:lang: unknown attribute at line 1 column 38",
        ),
        (
            "<name><id value=\"x\"/><text value=\"a\"/></name>",
            "structure Patient.name[0].id: unknown element at line 1 column 44",
        ),
        (
            "<extension><url value=\"x\"/></extension>",
            "structure Patient.extension[0].url: unknown element at line 1 column 49",
        ),
        (
            "<active value=\"true\"><value value=\"x\"/></active>",
            "structure Patient.active.value: unknown element at line 1 column 59",
        ),
        (
            "<gender value=\"male\"/><active value=\"true\"/>",
            "structure Patient.active: the element stands too late: XML keeps the order of the definition at line 1 column 60",
        ),
        (
            "<name><given value=\"a\"/></name><gender value=\"male\"/><name><given value=\"b\"/></name>",
            "structure Patient.name: the element stands too late: XML keeps the order of the definition at line 1 column 91",
        ),
        (
            "<active value=\"true\"/><active value=\"true\"/>",
            "structure Patient.active: the element may stand only once at line 1 column 60",
        ),
        (
            "<deceasedBoolean value=\"true\"/><deceasedDateTime value=\"2000\"/>",
            "structure Patient.deceased: only one type of a choice may be given at line 1 column 69",
        ),
        (
            "<active xmlns=\"http://x\" value=\"true\"/>",
            "structure Patient.active: the element is not in the namespace http://hl7.org/fhir at line 1 column 38",
        ),
        (
            "<x:active value=\"true\"/>",
            "structure Patient.active: the element is not in the namespace http://hl7.org/fhir at line 1 column 38",
        ),
        ("<contained/>", "structure Patient.contained[0]: a resource is needed at line 1 column 38"),
        (
            "<contained><Basic/><Basic/></contained>",
            "structure Patient.contained[0]: only one resource is allowed here at line 1 column 57",
        ),
        (
            "<contained><Nothing><a/></Nothing></contained>",
            "not-supported Patient.contained[0]: not a resource type of FHIR R4 at line 1 column 49",
        ),
        (
            "<contained id=\"x\"><Basic/></contained>",
            "structure Patient.contained[0].id: unknown attribute at line 1 column 38",
        ),
        (
            "<contained><Basic id=\"x\"/></contained>",
            "structure Patient.contained[0].id: unknown attribute at line 1 column 49",
        ),
        (
            "<active value=\"true\" value=\"true\"/>",
            "duplicate Patient: the same attribute twice at line 1 column 38",
        ),
        (
            "<active value=\"true\"id=\"a\"/>",
            "structure Patient: the attributes are not well-formed at line 1 column 38",
        ),
        ("<active value=true/>", "structure Patient: the attributes are not well-formed at line 1 column 38"),
        ("<active value/>", "structure Patient: the attributes are not well-formed at line 1 column 38"),
        (
            "<name><text value=\"&x;\"/></name>",
            "structure Patient.name[0].text.value: an entity that XML does not know, or an & that begins no reference at line 1 column 44",
        ),
        (
            "<name><text value=\"a & b\"/></name>",
            "structure Patient.name[0].text.value: an entity that XML does not know, or an & that begins no reference at line 1 column 44",
        ),
        (
            "<name><text value=\"&#11;\"/></name>",
            "structure Patient.name[0].text.value: a character that XML forbids at line 1 column 44",
        ),
        (
            "<name><text value=\"&#xD800;\"/></name>",
            "structure Patient.name[0].text.value: an entity that XML does not know, or an & that begins no reference at line 1 column 44",
        ),
        ("<name></nom>", "structure Patient.name[0]: the end tag matches no start tag at line 1 column 44"),
        ("<1a/>", "structure Patient: this is no name of an element at line 1 column 38"),
        ("<a:b:c/>", "structure Patient: this is no name of an element at line 1 column 38"),
        ("<!DOCTYPE a>", "structure Patient: a document type declaration is not allowed at line 1 column 38"),
        (
            "<?xml version=\"1.0\"?>",
            "structure Patient: an XML declaration stands at the very beginning at line 1 column 38",
        ),
    ] {
        assert_eq!(outcome(&patient(inner)), wanted, "{inner}");
    }
}

#[test]
fn faults_of_elements_are_told_together() {
    let found = outcome(&patient("\n<bogus><a/>b</bogus>\n<active value=\"x\"/>\n<name>\n"));
    let wanted = "structure Patient.bogus: unknown element at line 2 column 1\n\
        value Patient.active: a boolean is needed at line 3 column 1\n\
        structure Patient.name[0]: the end tag matches no start tag at line 5 column 1";
    assert_eq!(found, wanted);
    let many = "<bogus/>".repeat(1000);
    assert_eq!(outcome(&patient(&many)).lines().count(), 100);
}

#[test]
fn documents_are_one_resource_in_utf_8() {
    for (xml, wanted) in [
        ("", "structure Resource: there is no element at line 1 column 1"),
        ("  ", "structure Resource: there is no element at line 1 column 3"),
        ("{}", "structure Resource: text is not allowed here at line 1 column 1"),
        (
            "<Patient/>",
            "structure Patient: the element is not in the namespace http://hl7.org/fhir at line 1 column 1",
        ),
        (
            "<Nothing xmlns=\"http://hl7.org/fhir\"/>",
            "not-supported Nothing: not a resource type of FHIR R4 at line 1 column 1",
        ),
        (
            "<HumanName xmlns=\"http://hl7.org/fhir\"/>",
            "not-supported HumanName: not a resource type of FHIR R4 at line 1 column 1",
        ),
        (
            "<Patient xmlns=\"http://hl7.org/fhir\">",
            "structure Patient: the text ends within an element at line 1 column 38",
        ),
        (
            "<Patient xmlns=\"http://hl7.org/fhir\"",
            "structure Resource: a tag, comment or the like has no end at line 1 column 1",
        ),
        (
            "<Basic xmlns=\"http://hl7.org/fhir\"/><Basic/>",
            "structure Resource: there is more than one element at line 1 column 37",
        ),
        (
            "<Basic xmlns=\"http://hl7.org/fhir\"/>x",
            "structure Resource: text is not allowed here at line 1 column 37",
        ),
        (
            "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><Basic xmlns=\"http://hl7.org/fhir\"/>",
            "structure Resource: a document type declaration is not allowed at line 1 column 1",
        ),
        (
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><Basic/>",
            "not-supported Resource: FHIR is exchanged in UTF-8, and another encoding is declared at line 1 column 1",
        ),
        (
            "<?xml version=\"1.1\"?><Basic/>",
            "structure Resource: XML of another version than 1.0 at line 1 column 1",
        ),
        (
            "<Basic xmlns=\"http://hl7.org/fhir\">\u{1}</Basic>",
            "structure : a character that XML forbids at line 1 column 36",
        ),
    ] {
        assert_eq!(outcome(xml), wanted, "{xml}");
    }
    let basic = r#"{"resourceType":"Basic"}"#;
    assert_eq!(
        outcome("\u{feff}<?xml version='1.0' encoding='UTF-8'?><Basic xmlns='http://hl7.org/fhir'/>"),
        basic
    );
    assert_eq!(outcome("<b:Basic xmlns:b=\"http://hl7.org/fhir\"></b:Basic >"), basic);
    assert_eq!(
        outcome("\u{feff}\u{feff}<Basic xmlns='http://hl7.org/fhir'/>"),
        "structure : a byte order mark within the text at line 1 column 1"
    );
    let wide: Vec<u8> = "<Basic/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(read(&wide, &Limits::default()).is_err());
    assert!(read(b"\xff\xfe<\0", &Limits::default()).is_err());
    assert!(read(b"<Basic xmlns=\"\xe9\"/>", &Limits::default()).is_err());
}

#[test]
fn size_depth_and_number_have_limits() {
    let small = Limits { bytes: 10, ..Limits::default() };
    assert!(read(patient("").as_bytes(), &small).is_err_and(|issues| issues.0[0].code == "too-long"));
    let nested = |n: usize| {
        let extensions =
            "<extension url=\"x\">".repeat(n) + "<valueCode value=\"a\"/>" + &"</extension>".repeat(n);
        outcome(&patient(&extensions))
    };
    assert_eq!(nested(31), json(&nested(31)).to_text());
    assert!(nested(32).starts_with("too-costly "), "{}", nested(32));
    assert!(nested(100_000).starts_with("too-costly "));
    let deep = "<a>".repeat(100_000);
    assert!(outcome(&deep).contains("nested too deep"));
    assert!(outcome(&patient(&deep)).contains("nested too deep"));
    let wide = (0..100_000).map(|n| format!(" a{n}=\"\"")).collect::<Vec<_>>().concat();
    assert!(outcome(&patient(&format!("<active{wide}/>"))).contains("too many attributes"));
    let spaces = (0..100_000).map(|n| format!(" xmlns:a{n}=\"b\"")).collect::<Vec<_>>().concat();
    assert!(outcome(&patient(&format!("<active{spaces}/>"))).contains("namespace"));
}

#[test]
fn what_xml_has_no_place_for_is_not_written() {
    for (text, wanted) in [
        (r#"{"resourceType":"Nothing"}"#, "Nothing.resourceType"),
        (r#"{"id":"x"}"#, "Resource.resourceType"),
        (r#"{"resourceType":"Patient","bogus":1}"#, "Patient.bogus"),
        (r#"{"resourceType":"Patient","active":"true"}"#, "Patient.active"),
        (r#"{"resourceType":"Patient","active":null}"#, "Patient.active"),
        (r#"{"resourceType":"Patient","active":[true]}"#, "Patient.active"),
        (r#"{"resourceType":"Patient","name":{"text":"x"}}"#, "Patient.name"),
        (r#"{"resourceType":"Patient","name":[]}"#, "Patient.name"),
        (r#"{"resourceType":"Patient","name":[{}]}"#, "Patient.name[0]"),
        (r#"{"resourceType":"Patient","name":[null]}"#, "Patient.name[0]"),
        (r#"{"resourceType":"Patient","name":[{"given":[null]}]}"#, "Patient.name[0].given[0]"),
        (r#"{"resourceType":"Patient","_active":{}}"#, "Patient.active"),
        (r#"{"resourceType":"Patient","_name":[{"id":"x"}]}"#, "Patient.name[0]"),
        (r#"{"resourceType":"Patient","name":[{"text":"a\u0001b"}]}"#, "Patient.name[0].text"),
        (r#"{"resourceType":"Patient","name":[{"text":"\uffff"}]}"#, "Patient.name[0].text"),
        (
            r#"{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2000"}"#,
            "Patient.deceased",
        ),
        (
            r#"{"resourceType":"Patient","extension":[{"url":"x","_url":{"id":"y"}}]}"#,
            "Patient.extension[0]._url",
        ),
        (r#"{"resourceType":"Patient","extension":[{"url":1}]}"#, "Patient.extension[0].url"),
        (
            r#"{"resourceType":"Patient","contained":[{"resourceType":"x"}]}"#,
            "Patient.contained[0].resourceType",
        ),
        (r#"{"resourceType":"Patient","text":{"div":"<p/>"}}"#, "Patient.text.div"),
    ] {
        let place = write(&json(text), Layout::Compact).map_err(|issues| issues.0[0].expression.clone());
        assert_eq!(place, Err(wanted.to_owned()), "{text}");
    }
}

#[test]
fn a_narrative_that_is_not_well_formed_is_never_written() {
    let patient = |div: &str| {
        let div = Json::String(div.into()).to_text();
        write(&json(&format!(r#"{{"resourceType":"Patient","text":{{"div":{div}}}}}"#)), Layout::Compact)
    };
    let good = format!("<div xmlns=\"{DIV}\">a</div>");
    assert_eq!(
        patient(&format!(" {good}\n<!-- a -->")).ok(),
        Some(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Patient xmlns=\"http://hl7.org/fhir\"><text>{good}</text></Patient>"
        ))
    );
    for bad in [
        String::new(),
        "a".to_owned(),
        "<div>a</div>".to_owned(),
        good.repeat(2),
        format!("{good}</text>"),
        format!("\u{a0}{good}"),
        format!("<?xml version=\"1.0\"?>{good}"),
        format!("<!DOCTYPE a>{good}"),
        good.replace('a', "<p>"),
        good.replace('a', "</div></text><active value=\"true\"/><text><div>"),
        good.replace('a', "&nbsp;"),
        good.replace('a', "\u{1}"),
        good.replace('a', "]]>"),
        good.replace('a', "<x:b/>"),
        good.replace('a', "<p a='1'b='2'/>"),
        good.replace('a', "<p a=1/>"),
        good.replace('a', "<"),
    ] {
        assert!(patient(&bad).is_err(), "{bad}");
    }
}

#[test]
fn the_written_text_has_the_order_of_the_definition() {
    let text = r#"{"name":[{"family":"B","_given":[null,{"id":"g"}],"given":["A\n\"1\"","<&>"]}],"active":true,"_birthDate":{"extension":[{"valueCode":"a","url":"http://x","id":"e"}]},"resourceType":"Patient","id":"p"}"#;
    let compact = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Patient xmlns=\"http://hl7.org/fhir\"><id value=\"p\"/>\
        <active value=\"true\"/><name><family value=\"B\"/><given value=\"A&#10;&quot;1&quot;\"/>\
        <given id=\"g\" value=\"&lt;&amp;&gt;\"/></name><birthDate><extension url=\"http://x\" id=\"e\">\
        <valueCode value=\"a\"/></extension></birthDate></Patient>";
    assert_eq!(write(&json(text), Layout::Compact), Ok(compact.to_owned()));
    let pretty = r#"<?xml version="1.0" encoding="UTF-8"?>
<Bundle xmlns="http://hl7.org/fhir">
  <entry>
    <resource>
      <Basic>
        <text>
          <div xmlns="http://www.w3.org/1999/xhtml"> a
 <p> b</p></div>
        </text>
      </Basic>
    </resource>
  </entry>
</Bundle>
"#;
    let text = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic","text":{"div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"> a\n <p> b</p></div>"}}}]}"#;
    assert_eq!(write(&json(text), Layout::Pretty), Ok(pretty.to_owned()));
}

/// The same with the members of every object in one order.
fn ordered(json: &Json<'_>) -> Json<'static> {
    match json {
        Json::Array(items) => Json::Array(items.iter().map(ordered).collect()),
        Json::Object(object) => {
            let mut members: Vec<_> =
                object.iter().map(|(key, one)| (key.to_owned(), ordered(one))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(members.into_iter().map(|(key, one)| (key.into(), one)).collect())
        }
        other => other.clone().into_owned(),
    }
}

fn samples(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            samples(&path, found);
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
    }
}

#[test]
fn every_sample_of_the_repository_comes_back_from_xml() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["profiles", "fuzz/seeds", "../server/demo"] {
        samples(&here.join(folder), &mut all);
    }
    let mut count = 0;
    for path in all {
        let text = std::fs::read(&path).unwrap();
        let Ok(resource) = parse(&text, &Limits::default()) else { continue };
        if resource.get("resourceType").is_none() {
            continue;
        }
        for layout in [Layout::Compact, Layout::Pretty] {
            let xml = write(&resource, layout).unwrap();
            let again = read(xml.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(ordered(&again), ordered(&resource), "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

#[test]
fn the_deepest_resource_can_be_written_in_a_bundle() {
    let nested = |levels: usize| {
        let mut item = r#"{"linkId":"x","type":"display"}"#.to_owned();
        for _ in 0..levels {
            item = format!(r#"{{"linkId":"x","type":"group","item":[{item}]}}"#);
        }
        format!(r#"{{"resourceType":"Questionnaire","status":"draft","item":[{item}]}}"#)
    };
    let limits = Limits { depth: 80, ..Limits::default() };
    let deepest =
        (0..64).take_while(|levels| parse(nested(*levels).as_bytes(), &Limits::default()).is_ok()).last();
    for levels in deepest.into_iter().flat_map(|deepest| deepest - 1..=deepest) {
        let mut text = nested(levels);
        for _ in 0..2 {
            text =
                format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{text}}}]}}"#);
            let resource = parse(text.as_bytes(), &limits).unwrap_or(Json::Null);
            assert!(write(&resource, Layout::Compact).is_ok(), "{levels}");
        }
    }
    assert_eq!(deepest, Some(30));
}
