//! What the trail keeps of a text that somebody else wrote.

/// Bytes of one text: all that a request can ask.
const MOST: usize = 250_000;
/// How keys of this server's own begin, and how much of one is enough to hide it.
const KEY: &str = "augury_";
const SHORTEST_KEY: usize = 12;

/// What is kept of a text: no keys of this server's own, nothing that a database refuses, and not more than a
/// request can ask.
pub fn kept(text: &str) -> String {
    let (kept, rest) = text.split_at(text.floor_char_boundary(MOST));
    let mut told = String::with_capacity(kept.len());
    for (n, part) in kept.split(KEY).enumerate() {
        let secret = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        match part.get(secret..) {
            Some(after) if n > 0 && secret >= SHORTEST_KEY => told.extend([KEY, "…", after]),
            _ if n > 0 => told.extend([KEY, part]),
            _ => told.push_str(part),
        }
    }
    told.push_str(if rest.is_empty() { "" } else { "… (cut)" });
    // Neither database takes a NUL.
    told.replace('\0', "\u{fffd}")
}
