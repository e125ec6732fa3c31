//! Which versions of TLS an endpoint speaks: asked by the first message of a handshake, byte for byte,
//! since no library of today would still say the old ones.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{check, endpoint};
use crate::check::{Check, Outcome, Stop, ensure};
use crate::server::Server;

const AT: &str = "smart-app-launch/STU2.2/app-launch.html#smart-authorization--fhir-access-overview";
/// Major and minor number, name.
const OLD: [(u8, &str); 3] = [(0, "SSL 3.0"), (1, "TLS 1.0"), (2, "TLS 1.1")];

fn field(bytes: &[u8], width: usize) -> Vec<u8> {
    let length = (bytes.len() as u64).to_be_bytes();
    let mut out = length.get(8 - width..).unwrap_or_default().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A ClientHello that knows nothing newer than this version (RFC 5246 section 7.4.1.2).
fn hello(minor: u8, host: &str) -> Vec<u8> {
    // ECDHE and RSA with AES: of every version something.
    let suites: &[u8] = &[
        0xc0, 0x2f, 0xc0, 0x30, 0xc0, 0x2b, 0xc0, 0x2c, 0xcc, 0xa8, 0xcc, 0xa9, 0xc0, 0x13, 0xc0, 0x14, 0xc0,
        0x09, 0xc0, 0x0a, 0x00, 0x2f, 0x00, 0x35, 0x00, 0x0a,
    ];
    let mut extensions = Vec::new();
    let mut extension = |kind: u8, body: &[u8]| {
        extensions.extend_from_slice(&[0, kind]);
        extensions.extend(field(body, 2));
    };
    let name = [&[0][..], &field(host.as_bytes(), 2)].concat();
    extension(0, &field(&name, 2));
    // Curves, forms of points, signatures.
    extension(10, &field(&[0, 29, 0, 23, 0, 24], 2));
    extension(11, &[1, 0]);
    extension(13, &field(&[4, 3, 5, 3, 8, 4, 8, 5, 4, 1, 5, 1, 2, 1, 2, 3], 2));
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    body.extend(field(suites, 2));
    body.extend([1, 0]);
    if minor > 0 {
        body.extend(field(&extensions, 2));
    }
    let handshake = [&[1][..], &field(&body, 3)].concat();
    [&[22, 3, minor.min(1)][..], &field(&handshake, 2)].concat()
}

/// What a server makes of a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It goes on in just this version.
    Spoken,
    /// It says that the version is not one of its own.
    Another,
    /// It closes, or says something else.
    Refused,
}

fn greeted(host: &str, port: u16, minor: u8) -> Result<Answer, Stop> {
    let failed = |e: std::io::Error| Stop::Fail(format!("{host}:{port}: {e}"));
    let address = (host, port).to_socket_addrs().map_err(failed)?.next().ok_or("no address")?;
    let wait = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, wait).map_err(failed)?;
    stream.set_read_timeout(Some(wait)).map_err(failed)?;
    stream.write_all(&hello(minor, host)).map_err(failed)?;
    // A record's head, and the first two bytes in it.
    let mut head = [0; 7];
    if stream.read_exact(&mut head).is_err() {
        return Ok(Answer::Refused);
    }
    // An alert, fatal, of the version.
    if matches!(head, [21, 3, _, _, _, 2, 70]) {
        return Ok(Answer::Another);
    }
    // A handshake record with a ServerHello: two more bytes of its length, and the version.
    let mut rest = [0; 4];
    let whole = stream.read_exact(&mut rest).is_ok();
    let spoken = matches!((head, rest), ([22, 3, _, _, _, 2, _], [_, _, 3, version]) if version == minor);
    Ok(if whole && spoken { Answer::Spoken } else { Answer::Refused })
}

fn secure(server: &Server, name: &str) -> Outcome {
    let address = endpoint(server, name)?;
    let url = reqwest::Url::parse(address).map_err(|e| e.to_string())?;
    if url.scheme() != "https" {
        return Err(Stop::Skip(format!("{name} is not https: a proxy in front ends TLS")));
    }
    let host = url.host_str().ok_or("no host")?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    for (minor, version) in OLD {
        ensure(greeted(host, port, minor)? != Answer::Spoken, format!("{version} is spoken"))?;
    }
    // A server that speaks TLS 1.3 alone says that 1.2 is another version.
    ensure(greeted(host, port, 3)? != Answer::Refused, "TLS 1.2 is not spoken, nor anything newer")
}

pub(super) fn checks() -> Vec<Check> {
    let names = [
        ("standalone_auth_tls", "authorization_endpoint"),
        ("standalone_token_tls", "token_endpoint"),
        ("ehr_auth_tls", "authorization_endpoint"),
        ("ehr_token_tls", "token_endpoint"),
        ("smart_backend_services_token_tls_version", "token_endpoint"),
    ];
    let one = |(id, name): (&str, &'static str)| {
        let title = format!("{name} speaks TLS 1.2 or newer, and neither SSL 3.0 nor TLS 1.0 nor 1.1");
        check(id, AT, &title, move |s| secure(s, name))
    };
    names.map(one).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_as_long_as_it_says() {
        for minor in 0..4 {
            let greeting = hello(minor, "app.example");
            let said = |at: usize| usize::from(greeting[at]) << 8 | usize::from(greeting[at + 1]);
            assert_eq!((said(3), said(7)), (greeting.len() - 5, greeting.len() - 9));
        }
    }
}
