//! New certificates without a restart: reading files again, when told or when they change.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ring::digest;
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::sleep,
};

use super::{
    TlsConfig,
    credentials::{Credentials, Names},
    error::TlsError,
    validity::not_after,
};

impl TlsConfig {
    /// Reads the files again: authorities, certificate and key. Everything is built before anything changes.
    ///
    /// Connections made from now on, by links and servers with any clone of this configuration, use what was read. Live ones are
    /// renewed within a minute, without a gap: links dial anew within 10 s, and servers turn peers that have not done so to a new
    /// connection. The options that were set stay.
    ///
    /// Reads files on the calling thread.
    ///
    /// # Errors
    /// [`TlsError`] with the file at fault; what was in use stays in use. [`TlsError::NoFiles`] if it was made from text.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.refresh(Refresh::Always).map(|_| ())
    }

    /// Reads the files again every `interval`, and [reloads](Self::reload) once their content has changed: dates and links do
    /// not count, since Kubernetes swaps directories. Failures are logged and counted, and content that failed is not tried
    /// again until it changes. Ends when the watch is dropped.
    ///
    /// # Errors
    /// [`TlsError::NoFiles`] if it was made from text.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use distcache_transport::TlsConfig;
    ///
    /// # async fn example() -> Result<(), distcache_transport::TlsError> {
    /// let tls = TlsConfig::from_pem_files("ca.pem", "node.pem", "node.key")?;
    /// let _watch = tls.watch(Duration::from_secs(30))?;
    /// println!("certificate {} ends at {:?}", tls.status().generation, tls.status().not_after);
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, interval: Duration) -> Result<TlsWatch, TlsError> {
        if self.inner.files.is_none() {
            return Err(TlsError::NoFiles);
        }
        let (tls, interval) = (self.clone(), interval.max(SHORTEST_INTERVAL));
        let task = tokio::spawn(async move {
            loop {
                sleep(interval).await;
                let tls = tls.clone();
                match spawn_blocking(move || tls.refresh(Refresh::IfChanged).map(|changed| (changed, tls))).await {
                    Ok(Ok((true, tls))) => tracing::info!(generation = tls.status().generation, "tls files reloaded"),
                    Ok(Ok((false, _))) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "tls files not reloaded; the old ones stay in use"),
                    Err(error) => tracing::error!(%error, "reading tls files failed"),
                }
            }
        });
        Ok(TlsWatch { task: task.abort_handle() })
    }

    /// Returns what is in use, and how reloads went.
    #[must_use]
    pub fn status(&self) -> TlsStatus {
        let credentials = self.credentials();
        let reloads = lock(&self.inner.reloads);
        TlsStatus {
            generation: credentials.generation,
            not_after: credentials.chain.first().and_then(|leaf| not_after(leaf)),
            failed_reloads: reloads.failed,
            last_error: reloads.last_error.clone(),
        }
    }

    /// Reads the files, one thread at a time, and tells whether what is in use has changed.
    fn refresh(&self, when: Refresh) -> Result<bool, TlsError> {
        let inner = &*self.inner;
        let files = inner.files.as_ref().ok_or(TlsError::NoFiles)?;
        let mut seen = lock(&inner.seen);
        let result = self.refresh_in_turn(files, &mut seen, when);
        let mut reloads = lock(&inner.reloads);
        match &result {
            Ok(true) => reloads.last_error = None,
            Ok(false) => {}
            Err(error) => {
                reloads.failed += 1;
                reloads.last_error = Some(error.clone());
            }
        }
        result
    }

    fn refresh_in_turn(&self, files: &Names, seen: &mut Seen, when: Refresh) -> Result<bool, TlsError> {
        // Whatever comes next is news after files that could not be read.
        let before = seen.take();
        let texts = read(files)?;
        *seen = fingerprint(&texts);
        if when == Refresh::IfChanged && *seen == before {
            return Ok(false);
        }
        let mut credentials = Credentials::read(files, texts.each_ref().map(Vec::as_slice), &self.inner.options)?;
        credentials.generation = self.credentials().generation + 1;
        self.inner.current.send_replace(Arc::new(credentials));
        Ok(true)
    }
}

/// Whether to build again what has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    Always,
    IfChanged,
}

/// Says which certificate a [`TlsConfig`] uses, and how reloads went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsStatus {
    /// 1 at first, and one more with every reload that succeeded.
    pub generation: u64,
    /// Until when this node's own certificate is valid; `None` if that cannot be read.
    pub not_after: Option<SystemTime>,
    /// Reloads that failed.
    pub failed_reloads: u64,
    /// Why the last reload failed; `None` if it succeeded, or there was none.
    pub last_error: Option<TlsError>,
}

/// Watches the files of a [`TlsConfig`] until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct TlsWatch {
    task: AbortHandle,
}

impl Drop for TlsWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    failed: u64,
    last_error: Option<TlsError>,
}

/// A hash of the files' content as it was last read, whether it could be used or not. Not the content: it holds a key.
pub(super) type Seen = Option<[u8; 32]>;

pub(super) fn fingerprint(texts: &[Vec<u8>; 3]) -> Seen {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in texts {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text);
    }
    context.finish().as_ref().try_into().ok()
}

pub(super) fn read(files: &Names) -> Result<[Vec<u8>; 3], TlsError> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source: Arc::new(source) })
    };
    let [ca, cert, key] = files;
    Ok([read(ca)?, read(cert)?, read(key)?])
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps an interval of zero from spinning.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
