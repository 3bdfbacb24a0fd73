//! Reading through the cache: the shortest way to use [`lookup`](Cache::lookup), for tasks and for threads.

use std::{
    any::Any,
    borrow::Borrow,
    convert::Infallible,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use crate::{
    cache::{Cache, Lookup},
    error::{Failure, LoadError},
    expiry::Expiry,
    fill::Fill,
    follower::Outcome,
    key::ToKey,
};

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Returns the value of a key; if it is not there, has one of all who ask load it.
    ///
    /// `load` is called only if this caller leads: at once, or later, when a leader before it went away. What it returns is
    /// stored for as long as the cache's default says, and shared by all who wait; so is its error, which is not stored. Works
    /// on any executor.
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] with the loader's error, whoever called it.
    ///
    /// # Panics
    ///
    /// Panics if `load` does. Others that wait are not harmed: one of them calls its own loader.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends only this caller's part. If it led, one of those who wait does so next.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::Cache;
    ///
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
    /// #             return output;
    /// #         }
    /// #     }
    /// # }
    /// # block_on(async {
    /// let cache = Cache::<String, u64>::builder(1 << 20).build()?;
    /// let parse = |text: &'static str| move || async move { text.parse::<u64>() };
    ///
    /// assert_eq!(cache.get_or_load("answer", parse("42")).await?, 42);
    /// assert_eq!(cache.get_or_load("answer", parse("never called")).await?, 42);
    /// assert!(cache.get_or_load("other", parse("not a number")).await.is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn get_or_load<Q, F, R, E>(&self, key: &Q, load: F) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToKey<K> + ?Sized,
        F: FnOnce() -> R,
        R: Future<Output = Result<V, E>>,
        E: Any + Send + Sync,
    {
        let fill = match self.lookup(key) {
            Lookup::Hit(value) => return Ok(value),
            Lookup::Lead(fill) => fill,
            Lookup::Follow(follower) => match follower.await {
                Outcome::Value(value) => return Ok(value),
                Outcome::Failed(failure) => return Err(LoadError::of_failure(failure)),
                Outcome::Lead(fill) => fill,
            },
        };
        let loaded = load().await;
        finish(fill, loaded)
    }

    /// Returns the value of a key; if it is not there, has one of all threads that ask make it.
    ///
    /// `make` is called only if this thread leads. It runs under no lock, but must not ask for the same key: it would wait for
    /// itself.
    ///
    /// # Panics
    ///
    /// Panics if `make` does. Others that wait are not harmed: one of them calls its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use distcache_core::Cache;
    ///
    /// let cache = Cache::<String, usize>::builder(1 << 20).build()?;
    /// assert_eq!(cache.get_or_insert_with("word", || "word".len()), 4);
    /// assert_eq!(cache.get_or_insert_with("word", || unreachable!("it is cached")), 4);
    /// # Ok::<_, distcache_core::BuildError>(())
    /// ```
    pub fn get_or_insert_with<Q>(&self, key: &Q, make: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToKey<K> + ?Sized,
    {
        let mut make = Some(|| Ok::<_, Infallible>(make()));
        loop {
            // `Err` is the failure of another caller's loader. This one cannot fail, so it tries for the lead again.
            if let Ok(value) = self.get_or_lead(key, &mut make) {
                return value;
            }
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), for values whose making can fail.
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] with the error of `make`, whoever called it.
    ///
    /// # Panics
    ///
    /// Panics if `make` does, without harm to others that wait.
    pub fn try_get_or_insert_with<Q, E>(&self, key: &Q, make: impl FnOnce() -> Result<V, E>) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToKey<K> + ?Sized,
        E: Any + Send + Sync,
    {
        self.get_or_lead(key, &mut Some(make))
    }

    fn get_or_lead<Q, E>(&self, key: &Q, make: &mut Option<impl FnOnce() -> Result<V, E>>) -> Result<V, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToKey<K> + ?Sized,
        E: Any + Send + Sync,
    {
        let fill = match self.lookup(key) {
            Lookup::Hit(value) => return Ok(value),
            Lookup::Lead(fill) => fill,
            Lookup::Follow(follower) => match follower.wait(None).expect("a wait without a limit ends with an outcome")
            {
                Outcome::Value(value) => return Ok(value),
                Outcome::Failed(failure) => return Err(LoadError::of_failure(failure)),
                Outcome::Lead(fill) => fill,
            },
        };
        let make = make.take().expect("who leads has its answer and does not ask again");
        let made = make();
        finish(fill, made)
    }
}

/// Ends a fill with what its loader gave.
fn finish<K, V, S, E>(fill: Fill<K, V, S>, loaded: Result<V, E>) -> Result<V, LoadError<E>>
where
    K: Eq + Clone,
    V: Clone,
    E: Any + Send + Sync,
{
    match loaded {
        Ok(value) => {
            // Stored or not, it is this caller's answer.
            fill.install(value.clone(), Expiry::Default);
            Ok(value)
        }
        Err(error) => {
            let error = Arc::new(error);
            fill.fail_with(Failure::from_shared(Arc::clone(&error)));
            Err(LoadError::Failed(error))
        }
    }
}
