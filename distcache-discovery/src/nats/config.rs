//! What the provider is configured with, and what can be wrong with it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::Fault;

/// All that can be configured, with its defaults.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) subject: String,
    pub(super) bucket: Option<String>,
    /// One is used; each further one is a fault.
    pub(super) credentials: Vec<Credentials>,
    pub(super) tls: Tls,
    pub(super) heartbeat: Duration,
    pub(super) answer_window: Duration,
    pub(super) connect_attempts: u32,
    pub(super) connect_timeout: Duration,
    /// Of what is read while it is configured.
    server_faults: Vec<Fault>,
}

/// How the node proves to the server who it is.
#[derive(Debug, Clone)]
pub(super) enum Credentials {
    UserPassword(Secret, Secret),
    Token(Secret),
    /// The path of a file with a JWT and the seed of its key.
    File(PathBuf),
    NkeySeed(Secret),
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    pub(super) required: bool,
    pub(super) roots: Option<PathBuf>,
    /// The paths of a certificate and of its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// A text that is in no log.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Settings {
    pub(super) fn new(subject: String) -> Self {
        Self {
            servers: Vec::new(),
            subject,
            bucket: None,
            credentials: Vec::new(),
            tls: Tls::default(),
            heartbeat: Duration::from_secs(2),
            answer_window: Duration::from_millis(500),
            connect_attempts: 5,
            connect_timeout: Duration::from_secs(1),
            server_faults: Vec::new(),
        }
    }

    /// Adds a server, or the fault of its URL. The fault does not repeat the URL: there may be a password in it.
    pub(super) fn add_server(&mut self, url: &str) {
        let index = self.servers.len() + self.server_faults.len();
        match parse_server(url) {
            Ok(server) => self.servers.push(server),
            Err(fault) => self.server_faults.push(Fault::new(format!("servers[{index}]"), fault)),
        }
    }

    /// Returns everything that is wrong.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = self.server_faults.clone();
        let mut fault = |field: &str, message: String| faults.push(Fault::new(field, message));
        let servers = self.servers.len();
        if servers > MOST_SERVERS {
            fault("servers", format!("holds {servers} servers, more than {MOST_SERVERS}"));
        }
        if let Err(wrong) = check_subject(&self.subject, self.bucket.is_some()) {
            fault("subject", format!("{:?} {wrong}", self.subject));
        }
        if let Some(bucket) = &self.bucket
            && let Err(wrong) = check_bucket(bucket)
        {
            fault("key_value", format!("{bucket:?} {wrong}"));
        }
        if self.credentials.len() > 1 {
            fault("credentials", "are of more than one kind: the server takes one".to_owned());
        }
        for credentials in &self.credentials {
            if let Err((field, wrong)) = credentials.check() {
                fault(field, wrong.to_owned());
            }
        }
        let mut check = |field: &str, value: Duration, least: Duration, most: Duration| {
            if !(least..=most).contains(&value) {
                fault(field, format!("is {value:?}, and must be from {least:?} to {most:?}"));
            }
        };
        check("heartbeat", self.heartbeat, Duration::from_millis(100), MOST_HEARTBEAT);
        check("answer_window", self.answer_window, Duration::from_millis(10), Duration::from_secs(5));
        check("connect_timeout", self.connect_timeout, Duration::from_millis(10), Duration::from_secs(60));
        if !(1..=MOST_ATTEMPTS).contains(&self.connect_attempts) {
            let attempts = self.connect_attempts;
            fault("connect_attempts", format!("is {attempts}, and must be from 1 to {MOST_ATTEMPTS}"));
        }
        faults
    }

    /// Whether the server has to prove who it is.
    pub(super) fn wants_tls(&self) -> bool {
        self.tls.required || self.servers.iter().any(ServerAddr::tls_required)
    }
}

impl Credentials {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match self {
            Self::UserPassword(user, _) if user.0.is_empty() => Err(("user_password", "has no user")),
            Self::Token(token) if token.0.is_empty() => Err(("token", "is empty")),
            Self::File(path) if path.as_os_str().is_empty() => Err(("credentials_file", "is empty")),
            Self::NkeySeed(seed) if !is_user_seed(&seed.0) => {
                Err(("nkey_seed", "is not the seed of a user: 58 capitals and digits that begin with SU"))
            }
            _ => Ok(()),
        }
    }
}

fn parse_server(url: &str) -> Result<ServerAddr, &'static str> {
    let url = url.trim();
    if url.is_empty() {
        return Err("is empty");
    }
    let server: ServerAddr = url.parse().map_err(|_| "is no URL of a NATS server: write nats://host:port")?;
    if !matches!(server.scheme(), "nats" | "tls") {
        return Err("has a scheme that is neither nats nor tls");
    }
    if server.username().is_some() || server.password().is_some() {
        return Err("holds a user or a password, which belong into user_password or token");
    }
    if server.host().is_empty() {
        return Err("has no host");
    }
    if server.port() == 0 {
        return Err("has port 0");
    }
    let parts = server.clone().into_inner();
    if !matches!(parts.path(), "" | "/") || parts.query().is_some() || parts.fragment().is_some() {
        return Err("has more than a host and a port");
    }
    Ok(server)
}

fn check_subject(subject: &str, is_key: bool) -> Result<(), &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '=');
    if subject.is_empty() {
        Err("is empty")
    } else if subject.len() > MOST_SUBJECT_BYTES {
        Err("has more than 200 bytes")
    } else if subject.split('.').any(str::is_empty) {
        Err("has an empty part: parts are divided by one dot each")
    } else if subject.contains(['*', '>']) {
        Err("has a wildcard, and must be one subject")
    } else if subject.starts_with('$') || subject.starts_with("_INBOX") {
        Err("is one that the server keeps for itself")
    } else if !subject.chars().all(|c| c == '.' || c.is_ascii_graphic()) {
        Err("has a character that is not printable ASCII")
    } else if is_key && !subject.chars().all(|c| c == '.' || is_name(c)) {
        Err("has a character that no key may have: letters, digits and -_/= may be")
    } else {
        Ok(())
    }
}

fn check_bucket(bucket: &str) -> Result<(), &'static str> {
    if bucket.is_empty() {
        Err("is empty")
    } else if bucket.len() > MOST_SUBJECT_BYTES {
        Err("has more than 200 bytes")
    } else if !bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        Err("has a character other than letters, digits, - and _")
    } else {
        Ok(())
    }
}

/// Whether a text has the form of a user's seed; whether its checksum is right, the server tells.
fn is_user_seed(text: &str) -> bool {
    text.len() == 58
        && text.starts_with("SU")
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
}

/// One of a NATS cluster leads to the whole of it.
const MOST_SERVERS: usize = 16;
/// The start would last longer than anybody waits.
const MOST_ATTEMPTS: u32 = 100;
/// The server's own limit for a line of its protocol is 4 KiB, and there is more in one.
const MOST_SUBJECT_BYTES: usize = 200;
/// A node that crashed is found for three and a half of these. Nobody's word is believed for longer.
pub(super) const MOST_HEARTBEAT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::new("distcache.presence".to_owned());
        settings.add_server("nats://127.0.0.1:4222");
        settings
    }

    #[test]
    fn urls_of_servers_are_read_and_each_mistake_is_told_apart() {
        for url in ["nats://127.0.0.1:4222", "tls://nats.example:4222", " nats://[::1]:4222/ ", "nats.example", "a:1"] {
            assert!(parse_server(url).is_ok(), "{url}");
        }
        let cases = [
            ("", "is empty"),
            ("nats", "ok"),
            ("natsX", "ok"),
            ("nats://", "no"),
            ("nats:///x", "no"),
            ("http://nats.example", "URL"),
            ("ws://nats.example", "scheme"),
            ("nats://a:b@nats.example", "password"),
            ("nats://token@nats.example", "password"),
            ("nats://nats.example:0", "port 0"),
            ("nats://nats.example:70000", "URL"),
            ("nats://nats.example/path", "more than"),
            ("nats://nats.example?x", "more than"),
        ];
        for (url, wanted) in cases {
            let read = parse_server(url).err().unwrap_or("ok");
            assert!(read.contains(wanted), "{url:?} gave {read:?}, not {wanted:?}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        assert_eq!(settings().faults(), []);
        let mut wrong = settings();
        wrong.add_server("nats://user:hunter2@nats.example");
        wrong.subject = "a..b".to_owned();
        wrong.bucket = Some("a b".to_owned());
        wrong.credentials =
            vec![Credentials::Token(Secret(String::new())), Credentials::NkeySeed(Secret("hunter2".to_owned()))];
        wrong.heartbeat = Duration::ZERO;
        wrong.answer_window = Duration::from_secs(6);
        wrong.connect_timeout = Duration::from_secs(61);
        wrong.connect_attempts = 0;
        let faults = wrong.faults();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let wanted = [
            "servers[1]",
            "subject",
            "key_value",
            "credentials",
            "token",
            "nkey_seed",
            "heartbeat",
            "answer_window",
            "connect_timeout",
            "connect_attempts",
        ];
        assert_eq!(fields, wanted);
        assert!(!format!("{wrong:?}{faults:?}").contains("hunter2"));
    }

    #[test]
    fn a_subject_is_one_that_can_be_published() {
        for good in ["a", "distcache.presence", "a-b_c.d=e/f", "caf\u{65}"] {
            assert_eq!(check_subject(good, true), Ok(()), "{good}");
        }
        assert_eq!(check_subject("a:b", false), Ok(()));
        for bad in ["", ".", "a.", ".a", "a..b", "a.*", ">", "a b", "a\tb", "a\r\nb", "caf\u{e9}", "$JS.x", "_INBOX.x"]
        {
            assert!(check_subject(bad, false).is_err(), "{bad:?}");
        }
        assert!(check_subject("a:b", true).is_err());
        assert!(check_subject(&"a".repeat(201), false).is_err());
    }

    #[test]
    fn the_form_of_a_seed_is_known() {
        assert!(is_user_seed("SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY"));
        for bad in ["", "SU", "SAANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY"] {
            assert!(!is_user_seed(bad));
        }
    }
}
