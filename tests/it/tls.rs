//! TLS: what is accepted and what is not, certificates that are replaced, clients that show one.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Backend, Folder, Server};

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority, a certificate of the server's and one of a client's.
pub(crate) fn certificates(folder: &Path) {
    openssl(folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=house");
    for (name, san) in [
        ("server", "subjectAltName=IP:127.0.0.1"),
        ("next", "subjectAltName=IP:127.0.0.1"),
        ("emr", "subjectAltName=DNS:emr"),
    ] {
        std::fs::write(folder.join(format!("{name}.ext")), san).unwrap();
        openssl(
            folder,
            &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.pem"
            ),
        );
    }
}

fn server(folder: &Path) -> Server {
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::copy(folder.join("server.pem"), folder.join("shown.pem")).unwrap();
    std::fs::copy(folder.join("server.key"), folder.join("shown.key")).unwrap();
    let settings = [
        ("AUGURY_AUTH", "required"),
        ("AUGURY_TLS_CERT", &path("shown.pem")),
        ("AUGURY_TLS_KEY", &path("shown.key")),
        ("AUGURY_TLS_CLIENT_CA", &path("ca.pem")),
    ];
    Server::start_with(Backend::Sqlite, &settings).unwrap()
}

/// What `openssl s_client` comes to: the protocol and cipher, or none.
fn handshake(server: &Server, arguments: &[&str]) -> Option<String> {
    let done = Command::new("openssl")
        .args(["s_client", "-connect", server.bind()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = said.lines().find(|line| line.starts_with("New, ") && !line.contains("(NONE)"))?;
    Some(line.trim_start_matches("New, ").to_owned())
}

fn curl(server: &Server, folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("curl")
        .args(["-sS", "--cacert", "ca.pem", "-o", "-", "-w", " %{http_code}"])
        .args(arguments)
        .arg(server.url("/fhir/Patient"))
        .current_dir(folder)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// Everything that is accepted is on this list.
#[test]
fn versions_and_ciphers() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let server = server(folder.path());
    for old in ["-tls1", "-tls1_1"] {
        assert_eq!(handshake(&server, &[old, "-cipher", "ALL:@SECLEVEL=0"]), None, "{old}");
    }
    let accepted = |version: &str, option: &str, all: &[&str]| -> Vec<String> {
        let one = |cipher: &&&str| handshake(&server, &[version, option, cipher]).is_some();
        all.iter().filter(one).map(|cipher| (*cipher).to_owned()).collect()
    };
    let of_13 = [
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_128_CCM_SHA256",
    ];
    assert_eq!(accepted("-tls1_3", "-ciphersuites", &of_13), of_13[..3]);
    let list = Command::new("openssl").args(["ciphers", "ALL:@SECLEVEL=0"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let all: Vec<&str> = list.trim().split(':').filter(|one| !one.starts_with("TLS_")).collect();
    assert!(all.len() > 60, "{all:?}");
    let mut found = accepted("-tls1_2", "-cipher", &all);
    found.sort();
    let mut expected =
        ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let folder = Folder::new().unwrap();
    let at = folder.path();
    certificates(at);
    let server = server(at);
    let emr = ["--cert", "emr.pem", "--key", "emr.key"];
    assert!(curl(&server, at, &[]).ends_with(" 401"));
    assert!(curl(&server, at, &emr).ends_with(" 401"), "nobody knows it yet");
    let added = harness::command(&[
        "client",
        "add",
        "emr",
        "--certificate",
        "emr.pem",
        "--scope",
        "system/Patient.rs",
    ])
    .unwrap()
    .env("AUGURY_DATABASE_URL", server.database_url())
    .env("AUGURY_DATA_DIR", at)
    .current_dir(at)
    .output()
    .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    assert!(curl(&server, at, &emr).ends_with(" 200"));
    assert!(
        curl(
            &server,
            at,
            &[
                emr[0],
                emr[1],
                emr[2],
                emr[3],
                "-X",
                "POST",
                "-H",
                "content-type: application/fhir+json",
                "-d",
                "{\"resourceType\":\"Patient\"}"
            ]
        )
        .ends_with(" 403")
    );
    openssl(at, "req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=emr");
    assert!(
        curl(&server, at, &["--cert", "other.pem", "--key", "other.key"]).contains("000"),
        "of another authority"
    );
}

#[test]
fn a_new_certificate_is_shown_without_a_restart() {
    let folder = Folder::new().unwrap();
    certificates(folder.path());
    let server = server(folder.path());
    let shown = || {
        let done = Command::new("openssl")
            .args(["s_client", "-connect", server.bind()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).contains("CN = next")
    };
    assert!(!shown());
    std::fs::copy(folder.path().join("next.pem"), folder.path().join("shown.pem")).unwrap();
    std::fs::copy(folder.path().join("next.key"), folder.path().join("shown.key")).unwrap();
    for _ in 0..30 {
        if shown() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert!(shown());
}
