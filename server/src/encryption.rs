//! TLS to others: whose certificates are believed, and which one is shown to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};

/// Roots of the certificates that are believed.
pub(crate) enum Roots<'p> {
    /// The system's.
    System,
    /// These (PEM), and no others.
    Only(&'p Path),
    /// These (PEM) beside the system's.
    Also(&'p Path),
}

/// As settings say that begin with that name (`audit_ca`, `audit_tls_cert`, `audit_tls_key`).
pub(crate) fn towards(
    setting: &str,
    roots: &Roots<'_>,
    identity: Option<&(PathBuf, PathBuf)>,
) -> anyhow::Result<ClientConfig> {
    let named = |what: &str, path: &Path| {
        let name = format!("{setting}_{what}");
        format!("AUGURY_{} ({name}) {}", name.to_uppercase(), path.display())
    };
    let all = |what: &str, path: &Path| {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        all.with_context(|| named(what, path))
    };
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match roots {
        Roots::System => builder.with_platform_verifier().context("the system's certificates")?,
        Roots::Only(path) => {
            let mut roots = RootCertStore::empty();
            for root in all("ca", path)? {
                roots.add(root).with_context(|| named("ca", path))?;
            }
            builder.with_root_certificates(roots)
        }
        Roots::Also(path) => {
            let verifier = Verifier::new_with_extra_roots(all("ca", path)?, provider);
            let verifier = Arc::new(verifier.with_context(|| named("ca", path))?);
            // What is called dangerous is any verifier but the default; this is the system's.
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let Some((cert, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = all("tls_cert", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| named("tls_key", key))?;
    builder.with_client_auth_cert(chain, key).with_context(|| named("tls_cert", cert))
}
