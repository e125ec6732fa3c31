//! TLS: what is accepted and what is not, certificates that are replaced, clients that show one.

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::{BOTH, Backend, Folder, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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
    server_on(Backend::Sqlite, folder, &[])
}

fn server_on(backend: Backend, folder: &Path, more: &[(&str, &str)]) -> Server {
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::copy(folder.join("server.pem"), folder.join("shown.pem")).unwrap();
    std::fs::copy(folder.join("server.key"), folder.join("shown.key")).unwrap();
    let settings = [
        ("AUGURY_AUTH", "required"),
        ("AUGURY_TLS_CERT", &path("shown.pem")),
        ("AUGURY_TLS_KEY", &path("shown.key")),
        ("AUGURY_TLS_CLIENT_CA", &path("ca.pem")),
    ];
    Server::start_with(backend, &[&settings[..], more].concat()).unwrap()
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

/// What a form sent with these arguments of curl's is answered with.
fn form(server: &Server, folder: &Path, path: &str, arguments: &[&str]) -> (u16, Value) {
    let done = Command::new("curl")
        .args(["-sS", "--cacert", "ca.pem", "-w", "\n%{http_code}"])
        .args(arguments)
        .arg(server.url(path))
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn a_client_proves_who_it_is_with_a_certificate() {
    for backend in BOTH {
        let folder = Folder::new().unwrap();
        let at = folder.path();
        certificates(at);
        openssl(at, "req -x509 -newkey rsa:2048 -nodes -keyout own.key -out own.pem -days 2 -subj /CN=own");
        openssl(at, "req -x509 -newkey rsa:2048 -nodes -keyout fake.key -out fake.pem -days 2 -subj /CN=emr");
        let server = server_on(backend, at, &[("AUGURY_TLS_CLIENT_SELF_SIGNED", "true")]);
        let file = |name: &str| at.join(name).display().to_string();
        let add = |arguments: &[&str]| {
            let scope = ["--bound", "--scope", "system/Patient.rs"];
            let said = server.command(&[&["client", "add", "App"], arguments, &scope].concat(), "").unwrap();
            said.lines().find_map(|line| line.strip_prefix("id      ")).unwrap().to_owned()
        };
        let known = server.get("/fhir/.well-known/smart-configuration").unwrap().json;
        assert_eq!(known["tls_client_certificate_bound_access_tokens"], true);
        let methods = known["token_endpoint_auth_methods_supported"].as_array().unwrap();
        assert!(methods.contains(&json!("tls_client_auth")));
        assert!(methods.contains(&json!("self_signed_tls_client_auth")));

        let pair = |name: &str| {
            let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
            vec!["--cert".to_owned(), cert, "--key".to_owned(), key]
        };
        let asks = |client: &str, certificate: Option<&str>| {
            let id = format!("client_id={client}");
            let said = ["-d", "grant_type=client_credentials", "-d", &id, "-d", "scope=system/Patient.rs"];
            let shown = certificate.map(pair).unwrap_or_default();
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            form(&server, at, "/oauth/token", &[&said[..], &shown].concat())
        };
        let (emr, own) =
            (add(&["--tls-subject", &file("emr.pem")]), add(&["--self-signed", &file("own.pem")]));
        for (client, certificate, others) in
            [(&emr, "emr", ["own", "fake", "next"]), (&own, "own", ["emr", "fake", "next"])]
        {
            for other in others {
                let (status, told) = asks(client, Some(other));
                assert_eq!((status, &told["error"]), (401, &json!("invalid_client")), "{other}");
            }
            assert_eq!(asks(client, None).0, 401);
            let (status, got) = asks(client, Some(certificate));
            assert_eq!(status, 200, "{got}");
            let token = format!("authorization: Bearer {}", got["access_token"].as_str().unwrap());
            let read = |certificate: Option<&str>| {
                let shown = certificate.map(pair).unwrap_or_default();
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                form(&server, at, "/fhir/Patient", &[&["-D", "headers", "-H", &token][..], &shown].concat()).0
            };
            assert_eq!(read(Some(certificate)), 200);
            for other in [None, Some(others[0]), Some("next")] {
                assert_eq!(read(other), 401, "{other:?}");
                let headers = std::fs::read_to_string(at.join("headers")).unwrap();
                assert!(headers.contains("error=\"invalid_token\""), "{headers}");
            }
            let asked = format!("token={}", got["access_token"].as_str().unwrap());
            let id = format!("client_id={client}");
            let shown = pair(certificate);
            let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
            let worth =
                form(&server, at, "/oauth/introspect", &[&["-d", &asked, "-d", &id][..], &shown].concat());
            assert_eq!(worth.1["active"], true);
            assert_eq!(worth.1["cnf"]["x5t#S256"], thumbprint(at, certificate));
        }
    }
}

/// `x5t#S256` of a certificate.
fn thumbprint(folder: &Path, name: &str) -> String {
    let der = format!("x509 -in {name}.pem -outform DER -out {name}.der");
    openssl(folder, &der);
    URL_SAFE_NO_PAD.encode(Sha256::digest(std::fs::read(folder.join(format!("{name}.der"))).unwrap()))
}

#[test]
fn an_app_registers_which_certificate_it_will_show() {
    let folder = Folder::new().unwrap();
    let at = folder.path();
    certificates(at);
    let server = server(at);
    let told = |more: Value| {
        let mut body = json!({"grant_types": ["client_credentials"], "scope": "system/Patient.rs",
            "token_endpoint_auth_method": "tls_client_auth", "tls_client_certificate_bound_access_tokens": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        std::fs::write(at.join("body.json"), body.to_string()).unwrap();
        form(&server, at, "/oauth/register", &["-H", "content-type: application/json", "-d", "@body.json"])
    };
    let (status, got) = told(json!({"tls_client_auth_san_dns": "emr"}));
    assert_eq!((status, &got["tls_client_auth_san_dns"]), (201, &json!("emr")), "{got}");
    assert_eq!(got["tls_client_certificate_bound_access_tokens"], true);
    let client = got["client_id"].as_str().unwrap();
    server.command(&["client", "approve", client], "").unwrap();
    let id = format!("client_id={client}");
    let said = ["-d", "grant_type=client_credentials", "-d", &id, "-d", "scope=system/Patient.rs"];
    let asks = |name: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        form(&server, at, "/oauth/token", &[&said[..], &["--cert", &cert, "--key", &key]].concat()).0
    };
    assert_eq!((asks("emr"), asks("next")), (200, 401));
    for wrong in [
        json!({}),
        json!({"tls_client_auth_san_dns": "emr", "tls_client_auth_subject_dn": "CN=emr"}),
        json!({"tls_client_auth_san_ip": "emr"}),
        json!({"tls_client_auth_subject_dn": "emr"}),
        json!({"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": {"keys": [{"kid": "a", "kty": "RSA"}]}}),
    ] {
        assert_eq!(told(wrong.clone()).1["error"], "invalid_client_metadata", "{wrong}");
    }
}
