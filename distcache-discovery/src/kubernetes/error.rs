//! How an answer of the API server fails, and what to say of it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::ID;
use crate::DiscoveryError;

/// Explains why an answer is of no use.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The server could not be reached, or went away.
    Client(kube::Error),
    /// The server does not know who asks.
    Unauthorized(String),
    /// The server knows, and says no.
    Forbidden(String),
    /// The version or the page asked for is too old: one has to list anew.
    Gone,
    /// The server said no for another reason.
    Status(u16, String),
    /// The server was not done in time.
    Timeout(Duration),
    /// The answer is longer than any good one.
    TooLong(usize),
    /// The answer is no JSON, or of another shape.
    Malformed(serde_json::Error),
    /// The list changed faster than it could be read.
    Changing,
    /// The request could not be written.
    Request(String),
}

/// What was asked for, as rights name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Watch,
}

impl ApiError {
    pub(super) fn status(code: u16, mut message: String) -> Self {
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
        }
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            410 => Self::Gone,
            _ => Self::Status(code, message),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    /// Says to the user what went wrong, and which right is missing.
    pub(super) fn explain(self, verb: Verb, resource: &str, namespace: &str) -> DiscoveryError {
        match self {
            Self::Unauthorized(message) => DiscoveryError::refused(
                ID,
                format!("the API server does not know this node's credentials, or no longer: {message}"),
            ),
            Self::Forbidden(message) => {
                let verb = format!("{verb:?}").to_lowercase();
                let right = format!("{resource} {verb} in namespace {namespace}");
                DiscoveryError::refused(
                    ID,
                    format!("the right is missing to {right}: see the RBAC in examples/kubernetes ({message})"),
                )
            }
            error => DiscoveryError::unavailable(ID, error),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(_) => f.write_str("the API server could not be asked"),
            Self::Unauthorized(message) | Self::Forbidden(message) => f.write_str(message),
            Self::Gone => f.write_str("the API server has forgotten the version that was asked for"),
            Self::Status(code, message) => write!(f, "the API server answered {code}: {message}"),
            Self::Timeout(waited) => write!(f, "the API server did not answer within {waited:?}"),
            Self::TooLong(limit) => write!(f, "the API server's answer has more than {limit} bytes"),
            Self::Malformed(_) => f.write_str("the API server's answer cannot be read"),
            Self::Changing => f.write_str("the list changed faster than it could be read"),
            Self::Request(error) => write!(f, "the request cannot be written: {error}"),
        }
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}

/// A sentence, and no page of HTML in a log.
const MAX_MESSAGE_CHARS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_right_and_other_failures_may_pass() {
        let explain = |code| ApiError::status(code, "no".repeat(1000)).explain(Verb::Watch, "pods", "prod");
        let error = explain(403);
        let shown = error.source().unwrap().to_string();
        assert!(shown.contains("pods watch in namespace prod") && shown.contains("examples/kubernetes"), "{shown}");
        assert!(!error.is_retryable() && shown.len() < 1000);
        assert!(matches!(explain(401), DiscoveryError::Refused { .. }));
        for code in [400, 404, 410, 429, 500, 503] {
            assert!(explain(code).is_retryable(), "{code}");
        }
    }
}
