//! What a peer's certificate says: [`PeerCertificate`].

use std::fmt;

use rustls::{CertificateError, Error as RustlsError, pki_types::CertificateDer};
use webpki::EndEntityCert;

/// Holds the names in a certificate that was verified: its chain, its dates and the [`PeerPolicy`](crate::PeerPolicy).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCertificate {
    /// Its DNS names, wildcards included.
    pub dns_names: Vec<String>,
    /// Its URIs, such as SPIFFE IDs.
    pub uri_names: Vec<String>,
}

impl PeerCertificate {
    /// Reads the names. Says nothing of whether they are true.
    pub(super) fn read(leaf: &CertificateDer<'_>) -> Result<Self, RustlsError> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        Ok(Self {
            dns_names: certificate.valid_dns_names().map(str::to_owned).collect(),
            uri_names: certificate.valid_uri_names().map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = self.dns_names.iter().chain(&self.uri_names);
        let Some(first) = names.next() else { return f.write_str("nobody") };
        write!(f, "{first:?}")?;
        names.try_for_each(|name| write!(f, ", {name:?}"))
    }
}
