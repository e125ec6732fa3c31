//! Whom a request names, whether it finds anything of theirs or not: that nothing was found is an answer too.

use percent_encoding::percent_decode_str;

use super::registry::parameter;
use crate::reference::is_id;
use crate::resource_type::ResourceType;

/// The ids of the patients that a request names in its path or its criteria, each once, at most so many: its method,
/// its path, and whatever parameters follow (`GET Patient/1/Observation?code=x`, ` subject=Patient/2`). Who is meant
/// by something else, as by a name, is not known here; and who looks into the audit trail sees no record.
pub fn named(asked: &str, most: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut parts = asked.split_ascii_whitespace().skip(1);
    let address = parts.next().unwrap_or_default();
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let segments: Vec<&str> = path.split('/').collect();
    let types =
        query.split('&').filter_map(|pair| pair.strip_prefix("_type=")).flat_map(|list| list.split(','));
    let kinds: Vec<ResourceType> =
        segments.iter().copied().chain(types).filter_map(ResourceType::parse).collect();
    if kinds.contains(&ResourceType::AUDIT_EVENT) {
        return found;
    }
    let mut take = |id: &str| {
        if is_id(id) && found.len() < most && !found.iter().any(|one| one == id) {
            found.push(id.to_owned());
        }
    };
    // An operation tells by itself whom it is about.
    let is_operation = segments.iter().any(|one| one.starts_with('$'));
    for pair in segments.windows(2).filter(|_| !is_operation) {
        if let [kind, id] = pair
            && *kind == ResourceType::PATIENT.name()
        {
            take(id);
        }
    }
    for pair in std::iter::once(query).chain(parts).flat_map(|list| list.split('&')) {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let (name, value) = (decoded(name), decoded(value));
        let is_bare = is_patient(&name, &kinds);
        for one in value.split(',') {
            match one.rsplit_once("Patient/") {
                Some((_, id)) => take(id.split(['/', '|', '?']).next().unwrap_or_default()),
                None if is_bare => take(one),
                None => {}
            }
        }
    }
    found
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Is what stands there alone a patient's id?
fn is_patient(name: &str, kinds: &[ResourceType]) -> bool {
    let (base, rest) = name.find([':', '.']).map_or((name, ""), |at| name.split_at(at));
    let of_patient = |code: &str| {
        matches!(code, "patient" | "subject")
            || kinds.iter().filter_map(|kind| parameter(*kind, code)).any(|one| {
                one.targets.contains(&ResourceType::PATIENT) && (one.targets.len() == 1 || !rest.is_empty())
            })
    };
    match base {
        // Of several types it need not be a patient's.
        "_id" => kinds == [ResourceType::PATIENT],
        // Through others, or by what the last name of a chain asks.
        "_has" => name.contains(":Patient:") && name.ends_with(":_id"),
        _ if name.ends_with("._id") => of_patient(base) || name.contains(":Patient."),
        _ => (rest.is_empty() || rest == ":Patient") && of_patient(base),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_named_is_found() {
        for (asked, expected) in [
            ("GET /fhir/Observation?patient=pc&code=2160-0&_summary=count", "pc"),
            ("GET /fhir/Observation?subject=Patient%2Fpc,Patient/pd", "pc pd"),
            ("GET /fhir/Observation?subject:Patient=pc", "pc"),
            ("GET /fhir/Observation?subject:Patient._id=pc", "pc"),
            ("GET /fhir/Observation?patient._id=pc", "pc"),
            ("GET /fhir/Observation?patient=https://h.example/fhir/Patient/pc/_history/2", "pc"),
            ("GET /fhir/Patient/pc/*?_summary=count", "pc"),
            ("GET /fhir/Patient/pc/Condition?code=none", "pc"),
            ("GET /fhir/Patient?_id=pc,pd&_count=0", "pc pd"),
            ("GET /fhir/Patient?_id:not=pc", "pc"),
            ("GET Patient?_id=pc", "pc"),
            ("GET /fhir?_type=Patient&_id=pc&_summary=count", "pc"),
            ("GET /fhir?_type=Patient,Practitioner&_id=d", ""),
            ("GET /fhir/Patient/pc/Observation?_id=o1", "pc"),
            ("GET /fhir?_type=Coverage&beneficiary=Patient/pc", "pc"),
            ("POST /fhir/Observation/_search patient=pc&code=x", "pc"),
            ("POST /fhir/Observation If-None-Exist: code=x&patient=pc", "pc"),
            ("GET /fhir/Organization?_has:Patient:organization:_id=pc", "pc"),
            ("GET /predictions?patient=pc&model=meld-3", "pc"),
            ("GET /fhir/Observation?_id=o1&code=x", ""),
            ("GET /fhir/Observation?subject:Group=g&status=final", ""),
            ("GET /fhir/Patient?name=pc", ""),
            ("GET /fhir/Patient/pc/$everything?_type=Observation", ""),
            ("GET /fhir/AuditEvent?patient=pc", ""),
            ("", ""),
        ] {
            assert_eq!(named(asked, 10).join(" "), expected, "{asked}");
        }
        assert_eq!(named("GET /fhir/Patient?_id=a,b,c,a", 2), ["a", "b"]);
    }
}
