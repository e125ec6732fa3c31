//! A setting that can't be used is named, with its value, in one line.

use harness::{Folder, command};

#[test]
fn what_stops_the_start_is_named() {
    let folder = Folder::new().unwrap();
    let here = folder.path().to_str().unwrap();
    let said = |action: &str, settings: &[(&str, &str)]| {
        let mut augury = command(&[action]).unwrap();
        let ran = augury.current_dir(here).envs(settings.iter().copied()).output().unwrap();
        assert_eq!(ran.status.code(), Some(2), "{action} {settings:?}");
        let text = String::from_utf8(ran.stderr).unwrap();
        text.lines().filter(|line| line.starts_with("augury: ")).collect::<Vec<_>>().join("\n")
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    for (name, value) in [
        ("AUGURY_DATA_DIR", "/proc/x"),
        ("AUGURY_DATABASE_URL", "sqlite:/proc/x.db"),
        ("AUGURY_BIND", bind.as_str()),
        ("AUGURY_REGION_FILE", "/proc/x"),
    ] {
        let line = said("serve", &[("AUGURY_LOG", "error"), (name, value)]);
        let place = value.trim_start_matches("sqlite:");
        assert!(line.contains(name) && line.contains(place) && !line.contains('\n'), "{name}: {line}");
    }
    let line = said("migrate", &[("AUGURY_DATA_DIR", "/proc/x")]);
    assert!(line.contains("AUGURY_DATA_DIR") && line.contains("/proc/x"), "{line}");
    let line = said("migrate", &[("AUGURY_DATABASE_URL", "postgres://me:secret@127.0.0.1:1/x")]);
    assert!(line.contains("AUGURY_DATABASE_URL") && !line.contains("secret"), "{line}");
}
