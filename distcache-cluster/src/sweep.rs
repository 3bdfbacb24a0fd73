//! What follows each view: the keys' new owners are told what they may not know (R7), and the store is swept of what is another's now (R5).

use std::sync::Arc;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{catch_up::catch_up, shared::Shared, view::SharedView};

/// Tells new owners, view by view, and passes each view on to the sweep. A sweep of a large store takes seconds, for which nobody is to wait that
/// has to hear what is old.
pub(crate) async fn tell(
    shared: Arc<Shared>,
    mut views: mpsc::UnboundedReceiver<SharedView>,
    told: mpsc::UnboundedSender<SharedView>,
) {
    let mut old = shared.view();
    while let Some(view) = views.recv().await {
        catch_up(&shared, &old, &view);
        old = Arc::clone(&view);
        // The sweep ends only when the node closes.
        let _ = told.send(view);
    }
}

/// Applies each view to the store: keys that this node does not own any more are dropped before it may own them again.
pub(crate) async fn sweep(shared: Arc<Shared>, mut views: mpsc::UnboundedReceiver<SharedView>) {
    let mut settles = None;
    loop {
        let view = tokio::select! {
            view = views.recv() => view,
            () = sleep_until(settles.unwrap_or_else(Instant::now)), if settles.is_some() => {
                shared.store.settle();
                settles = None;
                continue;
            }
        };
        let Some(view) = view else { return };
        if !shared.config.sweep_time.is_zero() {
            sleep(shared.config.sweep_time).await;
        }
        settles = Instant::now().checked_add(shared.config.fill_window);
        let ordinal = view.ordinal();
        let store = Arc::clone(&shared.store);
        if shared.config.transport.entropy.is_seeded() {
            // A thread of its own would end the sweep at another moment each time.
            store.keep_owned(&view);
        } else if tokio::task::spawn_blocking(move || store.keep_owned(&view)).await.is_err() {
            // A sweep walks the whole cache, so it has a thread of its own; the runtime's workers have better things to do.
            tracing::error!("a sweep of the cache panicked; everything is dropped instead");
            shared.drop_everything();
        }
        shared.standing.swept(ordinal);
    }
}
