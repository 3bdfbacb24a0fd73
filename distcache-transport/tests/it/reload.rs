//! New certificates without a restart: what changes, what stays, and what a bad file does.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use distcache_transport::{ConnectError, PeerPolicy, TlsConfig, TlsError};
use rcgen::date_time_ymd;
use tokio::time::sleep;

use crate::support::*;

/// A folder of its own with a node's three files; gone when dropped.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn new(pki: &Pki, name: &str) -> Self {
        static FOLDERS: AtomicUsize = AtomicUsize::new(0);
        let folder = FOLDERS.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("distcache-reload-{}-{folder}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let files = Self { dir };
        files.write(pki, name, 2100);
        files
    }

    fn write(&self, pki: &Pki, name: &str, until: i32) {
        write_to(&self.dir, pki, name, until);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn load(&self) -> TlsConfig {
        TlsConfig::from_pem_files(self.path("ca.pem"), self.path("node.pem"), self.path("node.key")).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn write_to(dir: &Path, pki: &Pki, name: &str, until: i32) {
    let (cert, key) = pki.leaf(name, |params| params.not_after = date_time_ymd(until, 1, 1));
    fs::write(dir.join("ca.pem"), pki.ca_pem()).unwrap();
    fs::write(dir.join("node.pem"), cert).unwrap();
    fs::write(dir.join("node.key"), key).unwrap();
}

fn seconds_until(year: i32) -> u64 {
    date_time_ymd(year, 1, 1).unix_timestamp().try_into().unwrap()
}

fn own_end(tls: &TlsConfig) -> u64 {
    tls.status().not_after.unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_use_what_was_reloaded_and_live_links_go_on() {
    let (old, new) = (Pki::new(), Pki::new());
    let files = Files::new(&old, "server");
    let tls = files.load();
    assert_eq!((tls.status().generation, own_end(&tls)), (1, seconds_until(2100)));
    let world = World::tcp().with_tls(Some(tls.clone()), Some(old.node("client")));
    let (server, live, _) = world.pair(quick()).await;

    files.write(&new, "server", 2090);
    tls.reload().unwrap();
    assert_eq!((tls.status().generation, own_end(&tls)), (2, seconds_until(2090)));
    assert!(live.call(ECHO, number(1), LONG).await.is_ok(), "a live link goes on");
    let error = definite_error(&world, &server).await;
    assert!(matches!(error, ConnectError::Tls(_)), "the old authority is trusted no more: {error}");
    let renewed = world.clone().with_tls(None, Some(new.node("client")));
    let fresh = renewed.open(server.local_addr(), quick());
    fresh.connected(LONG).await.unwrap();
    assert!(live.call(ECHO, number(1), LONG).await.is_ok());
    assert_eq!(server.connections(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_that_is_down_comes_up_with_the_new_certificate() {
    let (right, wrong) = (Pki::new(), Pki::new());
    let files = Files::new(&wrong, "client");
    let tls = files.load();
    let world = World::tcp().with_tls(Some(right.node("server")), Some(tls.clone()));
    let server = world.serve(&Script::new()).await;
    let link = world.open(server.local_addr(), quick());
    assert!(matches!(link.connected(LONG).await, Err(ConnectError::Tls(_))));
    files.write(&right, "client", 2100);
    tls.reload().unwrap();
    let mut states = link.watch();
    let up = states.wait_for(|state| matches!(state, distcache_transport::LinkState::Up(_)));
    tokio::time::timeout(LONG, up).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_reload_changes_nothing_and_is_counted() {
    let pki = Pki::new();
    let files = Files::new(&pki, "server");
    let tls = files.load();
    let world = World::tcp().with_tls(Some(tls.clone()), Some(pki.node("client")));
    let (server, ..) = world.pair(quick()).await;
    let (_, other_key) = pki.leaf("other", |_| {});
    // All three are new, and one is at fault: none may be used.
    for (file, text) in [("ca.pem", ""), ("node.pem", "nothing"), ("node.key", other_key.as_str())] {
        files.write(&Pki::new(), "server", 2090);
        fs::write(files.path(file), text).unwrap();
        let error = tls.reload().unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        assert_eq!(tls.status().last_error.unwrap().to_string(), error.to_string());
    }
    fs::remove_file(files.path("node.pem")).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));
    assert_eq!((tls.status().generation, tls.status().failed_reloads), (1, 4));
    assert_eq!(own_end(&tls), seconds_until(2100));
    world.open(server.local_addr(), quick()).connected(LONG).await.unwrap();

    files.write(&pki, "server", 2090);
    tls.reload().unwrap();
    assert_eq!((tls.status().generation, tls.status().failed_reloads), (2, 4));
    assert!(tls.status().last_error.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_survive_a_reload() {
    let pki = Pki::new();
    let files = Files::new(&pki, "n1.cache.example.org");
    let policy = PeerPolicy::DnsSuffix("cache.example.org".to_owned());
    let client = files.load().server_auth_only().peer_policy(policy);
    client.reload().unwrap();
    assert_eq!(client.status().generation, 2);

    let web = World::tcp().with_tls(Some(pki.node("n1.web.example.org").server_auth_only()), Some(client.clone()));
    let error = definite_error(&web, &web.serve(&Script::new()).await).await;
    assert!(matches!(&error, ConnectError::Tls(text) if text.contains("policy")), "{error}");

    let mutual = World::tcp().with_tls(Some(pki.node("n2.cache.example.org")), Some(client.clone()));
    let error = definite_error(&mutual, &mutual.serve(&Script::new()).await).await;
    assert!(matches!(&error, ConnectError::Tls(text) if text.contains("rejected")), "no certificate is shown: {error}");

    let open = World::tcp().with_tls(Some(client.clone()), Some(client));
    open.pair(quick()).await;
}

#[tokio::test]
async fn configuration_of_text_has_nothing_to_reload() {
    let tls = Pki::new().node("n1");
    assert!(matches!(tls.reload(), Err(TlsError::NoFiles)));
    assert!(matches!(tls.watch(SECOND), Err(TlsError::NoFiles)));
    assert_eq!(tls.status().failed_reloads, 0, "nothing was tried");
}

const OFTEN: Duration = Duration::from_millis(5);

/// As Kubernetes does it: files are links into a folder that is itself a link, and that one is swapped.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_sees_a_swapped_folder() {
    use std::os::unix::fs::symlink;

    let pki = Pki::new();
    let files = Files::new(&pki, "server");
    for (folder, year) in [("first", 2100), ("second", 2090)] {
        fs::create_dir(files.path(folder)).unwrap();
        write_to(&files.path(folder), &pki, "server", year);
    }
    symlink("first", files.path("..data")).unwrap();
    for name in ["ca.pem", "node.pem", "node.key"] {
        fs::remove_file(files.path(name)).unwrap();
        symlink(Path::new("..data").join(name), files.path(name)).unwrap();
    }
    let tls = files.load();
    let _watch = tls.watch(OFTEN).unwrap();
    symlink("second", files.path("..data_tmp")).unwrap();
    fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    eventually("the watch reloads", || tls.status().generation == 2).await;
    assert_eq!(own_end(&tls), seconds_until(2090));
    assert_eq!(tls.status().failed_reloads, 0);
}

#[tokio::test(start_paused = true)]
async fn watch_tries_bad_content_once_and_good_content_again() {
    let pki = Pki::new();
    let files = Files::new(&pki, "server");
    let tls = files.load();
    let _watch = tls.watch(SECOND).unwrap();
    sleep(SECOND * 10).await;
    assert_eq!(tls.status().generation, 1, "nothing has changed");

    fs::write(files.path("node.key"), "nothing").unwrap();
    sleep(SECOND * 10).await;
    assert_eq!((tls.status().generation, tls.status().failed_reloads), (1, 1));
    assert!(matches!(tls.status().last_error, Some(TlsError::NoPrivateKey { .. })));

    files.write(&pki, "server", 2090);
    sleep(SECOND * 10).await;
    assert_eq!((tls.status().generation, tls.status().failed_reloads), (2, 1));
    assert!(tls.status().last_error.is_none());
}

/// The same content after a file was away is not new, but the fault is over.
#[tokio::test(start_paused = true)]
async fn watch_forgets_a_file_that_was_away_for_a_while() {
    let files = Files::new(&Pki::new(), "server");
    let tls = files.load();
    let _watch = tls.watch(SECOND).unwrap();
    fs::rename(files.path("ca.pem"), files.path("away")).unwrap();
    sleep(SECOND * 10).await;
    assert!(tls.status().failed_reloads > 0);
    assert!(matches!(tls.status().last_error, Some(TlsError::Read { .. })));
    fs::rename(files.path("away"), files.path("ca.pem")).unwrap();
    sleep(SECOND * 10).await;
    assert!(tls.status().last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn watch_ends_when_it_is_dropped() {
    let pki = Pki::new();
    let files = Files::new(&pki, "server");
    let tls = files.load();
    drop(tls.watch(SECOND).unwrap());
    files.write(&pki, "server", 2090);
    sleep(SECOND * 10).await;
    assert_eq!(tls.status().generation, 1);
}
