//! Names that people read, of apps and of people: what is shown on a page or a line must be what it looks like.

/// Bytes at most.
const LONGEST: usize = 200;

/// What is wrong with a name, if something is.
pub(crate) fn fault(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() || name.len() > LONGEST {
        return Some("has no letters, or more than 200 bytes");
    }
    let hidden = name.chars().any(is_hidden);
    hidden.then_some("has a line break, or something else that can't be seen")
}

/// A name that somebody else vouches for, without what can't be seen in it.
pub(crate) fn shown(name: &str) -> String {
    let mut shown = String::with_capacity(name.len().min(LONGEST));
    for letter in name.chars().filter(|letter| !is_hidden(*letter)) {
        if shown.len() + letter.len_utf8() > LONGEST {
            break;
        }
        shown.push(letter);
    }
    shown
}

/// Control characters, and what changes how others are shown without being seen (Unicode TR 36). The joiners
/// U+200C and U+200D belong to how some languages are written.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_looks_like() {
        for good in ["Risk app", "Übersicht – Ω", "می\u{200c}خواهم", "👩\u{200d}⚕️ desk"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in
            ["", " ", "a\nb", "a\rb", "a\u{1b}[2J", "a\u{85}b", "ppa\u{202e}ksir", "\u{2066}x", "a\u{2028}b"]
        {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
        assert!(fault(&"x".repeat(201)).is_some());
        assert_eq!(shown("Dora\u{202e}\n Day"), "Dora Day");
        assert_eq!((shown(&"ü".repeat(201)), fault(&shown(&"ü".repeat(201)))), ("ü".repeat(100), None));
    }
}
