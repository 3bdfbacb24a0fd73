//! The provider's options.

use std::path::PathBuf;
use std::time::Duration;

use super::NatsProvider;
use super::config::{Credentials, Secret};

/// Options. Each is checked by [`validate`](crate::Provider::validate), not here.
impl NatsProvider {
    /// Adds a server of the same NATS cluster, to be tried when those before cannot be reached. At most 16.
    ///
    /// Only the servers listed are used, not those that a server tells of.
    #[must_use]
    pub fn server(mut self, url: impl AsRef<str>) -> Self {
        self.settings.add_server(url.as_ref());
        self
    }

    /// Uses the key-value bucket `bucket` of JetStream instead of plain messages. Defaults to none.
    ///
    /// A bucket that is not there is created, in memory and of at most 2 MiB, with entries that vanish after three and a half
    /// heartbeats; so all nodes have the same heartbeat. In one that is there already, entries should vanish
    /// likewise, else those of nodes that crashed stay in it, and each node that starts finds them for as long as that. The key
    /// of a node begins with the subject, so that clusters may share a bucket.
    #[must_use]
    pub fn key_value(mut self, bucket: impl Into<String>) -> Self {
        self.settings.bucket = Some(bucket.into());
        self
    }

    /// Logs in with a user and a password. Defaults to no log-in.
    #[must_use]
    pub fn user_password(self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials(Credentials::UserPassword(Secret(user.into()), Secret(password.into())))
    }

    /// Logs in with a token. Defaults to no log-in.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        self.credentials(Credentials::Token(Secret(token.into())))
    }

    /// Logs in with the JWT and the key in a credentials file, as `nsc` writes it. Defaults to no log-in.
    ///
    /// The file is read anew for each connection.
    #[must_use]
    pub fn credentials_file(self, path: impl Into<PathBuf>) -> Self {
        self.credentials(Credentials::File(path.into()))
    }

    /// Logs in with the key that has this seed: 58 characters that begin with `SU`. Defaults to no log-in.
    #[must_use]
    pub fn nkey_seed(self, seed: impl Into<String>) -> Self {
        self.credentials(Credentials::NkeySeed(Secret(seed.into())))
    }

    /// Encrypts the connection, and turns down a server that does not, or has no certificate for its name in the URL. Defaults to what
    /// the URL says: `tls://` does.
    ///
    /// Without this, a password goes over the network as it is.
    #[must_use]
    pub fn require_tls(mut self) -> Self {
        self.settings.tls.required = true;
        self
    }

    /// Trusts the certificate authorities in this PEM file instead of the system's, and
    /// [requires TLS](Self::require_tls). The file is read anew for each connection.
    #[must_use]
    pub fn root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.tls.roots = Some(path.into());
        self.require_tls()
    }

    /// Shows the server the certificate in a PEM file, of which the key is in another, and
    /// [requires TLS](Self::require_tls). Both are read anew for each connection.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.settings.tls.client = Some((certificate.into(), key.into()));
        self.require_tls()
    }

    /// Sets how often the node says that it is there. Defaults to 2 s; 100 ms to 60 s.
    ///
    /// A node that crashes is found for three and a half times as long. Every node hears every other: with too short a time, many
    /// nodes are busy with nothing else.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.settings.heartbeat = heartbeat;
        self
    }

    /// Sets for how long [`discover`](crate::Provider::discover) waits for answers. Defaults to 500 ms; 10 ms to 5 s.
    ///
    /// Nobody knows how many answers are to come, so it waits this long whenever it is called. With too short a
    /// time, a node that has only just started misses peers that are far away, and finds them by their next heartbeat. In a
    /// bucket it is only waited for what the server has to say, and this is the most.
    #[must_use]
    pub fn answer_window(mut self, window: Duration) -> Self {
        self.settings.answer_window = window;
        self
    }

    /// Sets how often [`start`](crate::Provider::start) tries all servers before it fails. Defaults to 5; 1 to 100.
    ///
    /// Between the attempts are pauses of 100 ms, twice as long each time, up to 5 s. Once it has started, it tries for ever.
    #[must_use]
    pub fn connect_attempts(mut self, attempts: u32) -> Self {
        self.settings.connect_attempts = attempts;
        self
    }

    /// Sets how long one attempt at one server may take, with its name looked up and TLS set up. Defaults to 1 s; 10 ms to 60 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    fn credentials(mut self, credentials: Credentials) -> Self {
        self.settings.credentials.push(credentials);
        self
    }
}
