use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "augury.example/log";

fn signer() -> Signer {
    Signer::new(ORIGIN, &Zeroizing::new([7; 32])).unwrap()
}

fn head() -> Head {
    Head {
        origin: ORIGIN.into(),
        size: 1_000_000,
        root: [42; 32],
        recorded: 1_700_000_000_000_000,
        last: (7, -8),
    }
}

#[test]
fn a_head_comes_back_from_its_note() {
    let note = signer().sign(&head()).unwrap();
    let lines: Vec<&str> = note.lines().collect();
    let root = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=";
    assert_eq!(lines[..6], [ORIGIN, "1000000", root, "recorded 1700000000000000", "last 7 -8", ""]);
    assert!(lines[6].starts_with("— augury.example/log "));
    assert_eq!(signer().verifier().open(&note), Ok(head()));
    let key: Verifier = signer().verifier().to_string().parse().unwrap();
    assert_eq!(key.open(&note), Ok(head()));
}

/// The example of Go's package golang.org/x/mod/sumdb/note: key, text and note.
#[test]
fn the_note_of_go_is_signed_and_opened() {
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n";
    const LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const OTHER: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
    let secret = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
    let seed = Zeroizing::new(secret[1..].try_into().unwrap());
    let signer = Signer::new("PeterNeumann", &seed).unwrap();
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(signer.verifier().to_string(), key);
    assert_eq!(signer.note(TEXT).unwrap(), format!("{TEXT}\n{LINE}"));
    let verifier: Verifier = key.parse().unwrap();
    assert_eq!(verifier.text(&format!("{TEXT}\n{LINE}")), Ok(TEXT));
    assert_eq!(verifier.text(&format!("{TEXT}\n{LINE}{OTHER}")), Ok(TEXT));
    assert_eq!(verifier.text(&format!("{TEXT}\n{OTHER}")), Err(HeadError::Unsigned));
    assert_eq!(verifier.open(&format!("{TEXT}\n{LINE}")), Err(HeadError::Text));
}

/// The example of C2SP signed-note.
#[test]
fn the_note_of_c2sp_is_opened() {
    let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let note = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let verifier: Verifier = key.parse().unwrap();
    assert_eq!(verifier.text(note), Ok("This is an example message.\n"));
}

#[test]
fn there_is_one_way_to_write_a_head() {
    let (signer, verifier) = (signer(), signer().verifier());
    let text = head().text();
    let open = |text: &str| verifier.open(&signer.note(text).unwrap());
    assert_eq!(open(&text), Ok(head()));
    for (from, to) in [
        ("1000000", "01000000"),
        ("1000000", "+1000000"),
        ("1000000", "1e6"),
        ("1000000", "18446744073709551616"),
        ("Kio=", "Kip="),
        ("Kio=", "Kio"),
        ("Kio=", "KioA"),
        ("recorded ", "recorded  "),
        ("recorded ", "Recorded "),
        ("recorded ", "recorded +"),
        ("recorded 1700000000000000\n", ""),
        ("000\n", "000\nmore\n"),
    ] {
        assert!(text.contains(from));
        assert_eq!(open(&text.replace(from, to)), Err(HeadError::Text), "{to}");
    }
    assert_eq!(open(&text.replace(ORIGIN, "augury.example/other")), Err(HeadError::Origin));
    assert_eq!(signer.sign(&Head { origin: "other".into(), ..head() }), Err(HeadError::Origin));
}

#[test]
fn a_note_is_signed_by_this_key_or_it_is_none() {
    let verifier = signer().verifier();
    let note = signer().sign(&head()).unwrap();
    let open = |note: &str| verifier.open(note);
    for (wrong, error) in [
        (String::new(), HeadError::Note),
        ("\n\n".into(), HeadError::Note),
        (head().text(), HeadError::Note),
        (note.trim_end().into(), HeadError::Note),
        (note.clone() + "\n", HeadError::Note),
        (note.clone() + "— \n", HeadError::Note),
        (note.clone() + "— a b!\n", HeadError::Note),
        (note.clone() + "— a+b AAAAAAA=\n", HeadError::Note),
        (note.clone() + "— a AAAAAA==\n", HeadError::Note),
        (note.replace("— ", "- "), HeadError::Note),
        (note.replace('\n', "\r\n"), HeadError::Note),
        (note.replace("recorded ", "recorded\t"), HeadError::Note),
        ("x".repeat(LIMIT) + &note, HeadError::Note),
        (note.replace("1000000\n", "1000001\n"), HeadError::Signature),
        (note.replace("— augury", "— other"), HeadError::Unsigned),
    ] {
        assert_eq!(open(&wrong), Err(error), "{wrong}");
    }
    assert_eq!(open(&(note.clone() + "— witness.example AAAAAAA=\n")), Ok(head()));
    let other = Signer::new(ORIGIN, &Zeroizing::new([8; 32])).unwrap();
    assert_eq!(other.verifier().open(&note), Err(HeadError::Unsigned));
}

#[test]
fn a_key_is_written_one_way() {
    let text = signer().verifier().to_string();
    let (name, rest) = text.split_once('+').unwrap();
    let (id, key) = rest.split_once('+').unwrap();
    for wrong in [
        String::new(),
        name.into(),
        format!("{name}+{id}"),
        format!("{name}+{}+{key}", id.to_uppercase()),
        format!("{name}+00000000+{key}"),
        format!("{name}+{id}+{key}="),
        format!("{name}+{id}+{key} "),
        format!("{name}+{id}+{}", STANDARD.encode([2; 33])),
        format!("{name}+{id}+{}", STANDARD.encode([1; 32])),
    ] {
        assert_eq!(wrong.parse::<Verifier>(), Err(HeadError::Key), "{wrong}");
    }
    for name in ["", "a b", "a+b", "a\u{a0}b", "a\n"] {
        assert_eq!(Signer::new(name, &Zeroizing::new([7; 32])).err(), Some(HeadError::Name), "{name}");
    }
}

proptest! {
    #[test]
    fn every_head_comes_back(size: u64, root: Hash, recorded: i64) {
        let head = Head { origin: ORIGIN.into(), size, root, recorded, last: (size.cast_signed(), recorded) };
        prop_assert_eq!(signer().verifier().open(&signer().sign(&head).unwrap()), Ok(head));
    }

    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut note = signer().sign(&head()).unwrap().into_bytes();
        let at = at.index(note.len());
        note[at] ^= 1_u8 << bit;
        if let Ok(note) = String::from_utf8(note) {
            prop_assert!(signer().verifier().open(&note).is_err(), "{}", note);
        }
    }

    #[test]
    fn anything_else_is_refused(note in "\\PC*", text in "(\\PC|\n)*") {
        prop_assert!(signer().verifier().open(&note).is_err());
        prop_assert!(signer().verifier().open(&text).is_err());
        prop_assert!(note.parse::<Verifier>().is_err());
    }
}
