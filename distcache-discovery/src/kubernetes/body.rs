//! Reads the bodies of answers, up to a bound: whole, or line by line.

use http_body_util::BodyExt as _;
use kube::client::Body;

use super::error::ApiError;

/// Reads a body to its end.
pub(super) async fn read_all(mut body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ApiError::Client)?.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(ApiError::TooLong(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads a body line by line, as it comes.
pub(super) struct Lines {
    body: Body,
    limit: usize,
    buffer: Vec<u8>,
    /// Up to here, lines were returned.
    taken: usize,
    /// Up to here, there is no further end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body, limit: usize) -> Self {
        Self { body, limit, buffer: Vec::new(), taken: 0, searched: 0 }
    }

    /// Returns the next line that is not empty, without its end; `None` at the end of the body, whose last line is lost if it was
    /// cut.
    ///
    /// # Cancel safety
    ///
    /// A dropped call loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, ApiError> {
        loop {
            while let Some(len) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let (start, end) = (self.taken, self.searched + len);
                (self.taken, self.searched) = (end + 1, end + 1);
                if end > start {
                    return Ok(Some(&self.buffer[start..end]));
                }
            }
            // Once for all lines of a frame, not once for each.
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.searched = self.buffer.len();
            if self.buffer.len() > self.limit {
                return Err(ApiError::TooLong(self.limit));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.map_err(ApiError::Client)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_found_and_a_cut_one_is_lost() {
        let mut lines = Lines::new(Body::from(b"\n\none\ntwo\n\nthr".to_vec()), 8);
        assert_eq!(lines.next().await.unwrap(), Some(&b"one"[..]));
        assert_eq!(lines.next().await.unwrap(), Some(&b"two"[..]));
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused() {
        let long = || Body::from(vec![b'a'; 9]);
        assert!(matches!(Lines::new(long(), 8).next().await, Err(ApiError::TooLong(8))));
        assert!(matches!(read_all(long(), 8).await, Err(ApiError::TooLong(8))));
        assert_eq!(read_all(long(), 9).await.unwrap().len(), 9);
    }
}
