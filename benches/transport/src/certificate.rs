//! A certificate for the two processes, made anew for each run.

use std::{env, fs, path::PathBuf};

use anyhow::Context;
use distcache_transport::TlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Makes a certificate and puts it where the server's process finds it.
///
/// # Errors
///
/// The files cannot be written.
pub fn make() -> anyhow::Result<PathBuf> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let node = CertificateParams::new(["node".to_owned()])?.signed_by(&key, &authority)?;
    let folder = env::temp_dir().join(format!("distcache-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    for (name, text) in FILES.iter().zip([authority.pem(), node.pem(), key.serialize_pem()]) {
        fs::write(folder.join(name), text)?;
    }
    Ok(folder)
}

/// Reads what [`make`] made.
///
/// # Errors
///
/// It is not there.
pub fn read(folder: &std::path::Path) -> anyhow::Result<TlsConfig> {
    let [ca, cert, key] = FILES.map(|name| folder.join(name));
    TlsConfig::from_pem_files(ca, cert, key).context("the certificate of the benches")
}

const FILES: [&str; 3] = ["ca.pem", "node.pem", "node.key"];
