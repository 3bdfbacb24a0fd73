//! Why TLS cannot be set up: [`TlsError`].

use std::{io, path::PathBuf, sync::Arc};

use thiserror::Error;

/// Explains why TLS could not be set up. Nothing else changed; a retry helps once the file named is corrected.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file could not be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The file holds no certificate. For the authorities' file: nobody would be trusted.
    #[error("no certificate in {}", file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// The file holds no private key.
    #[error("no private key in {}", file.display())]
    NoPrivateKey {
        /// The file.
        file: PathBuf,
    },
    /// The file holds something that cannot be used.
    #[error("cannot use {}: {fault}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, without its content.
        fault: String,
    },
    /// The private key belongs to another certificate.
    #[error("the key in {} does not match the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The configuration was made from text, so there is nothing to read again. A retry does not help.
    #[error("there are no files to read again")]
    NoFiles,
}
