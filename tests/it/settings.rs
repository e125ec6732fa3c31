//! A setting that can't be used is named, with its value, in one line.

use std::fs::{Permissions, metadata, read_dir, set_permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use harness::{Backend, Folder, Server, binary, command};

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

#[test]
fn a_rate_of_nobody_is_told() {
    let folder = Folder::new().unwrap();
    let mut serve = command(&["serve"]).unwrap();
    serve.env("AUGURY_DATA_DIR", folder.path()).env("AUGURY_BIND", "127.0.0.1:0");
    let mut serve =
        serve.env("AUGURY_CLIENT_RATES", "x-1=5/hour").stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(serve.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = lines
        .take_while(|line| !line.contains("serving"))
        .any(|line| line.contains("WARN") && line.contains("AUGURY_CLIENT_RATES") && line.contains("x-1"));
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(told);
}

fn mode(path: &Path) -> u32 {
    metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_on_the_machine_reads_the_database() {
    let folder = Folder::new().unwrap();
    let data = folder.path().join("new/data");
    let mut migrate = Command::new("sh");
    migrate.args(["-c", "umask 0; exec \"$0\" migrate"]).arg(binary().unwrap());
    migrate.env_remove("AUGURY_TEST_POSTGRES").env_remove("AUGURY_BIN").env("AUGURY_DATA_DIR", &data);
    assert!(migrate.status().unwrap().success());
    assert_eq!((mode(&data), mode(&data.join("augury.db"))), (0o700, 0o600));

    // What an older server left open is closed by the next start.
    let mut server = Server::start(Backend::Sqlite).unwrap();
    let place = server.database_url().trim_start_matches("sqlite:").to_owned();
    let files = ["", "-wal", "-shm"].map(|end| format!("{place}{end}"));
    let modes = || files.each_ref().map(|file| mode(Path::new(file)));
    assert_eq!(modes(), [0o600; 3]);
    server.kill().unwrap();
    for file in &files {
        set_permissions(file, Permissions::from_mode(0o644)).unwrap();
    }
    server.kill_and_restart().unwrap();
    assert_eq!(modes(), [0o600; 3]);
    server
        .put("/fhir/Patient/p", &serde_json::json!({"resourceType": "Patient", "id": "p"}))
        .unwrap()
        .expect(201)
        .unwrap();
    let open: Vec<_> = read_dir(Path::new(&place).parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && mode(path) & 0o077 != 0)
        .collect();
    assert!(open.is_empty(), "{open:?}");
}
