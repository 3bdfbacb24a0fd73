//! An error's text with all its causes.

use std::error::Error;

/// An error and all that caused it, in one line: for texts that leave the error itself behind.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
