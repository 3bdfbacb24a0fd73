//! What the lines of a node process lead to.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use distcache_examples::{
    Cities, Found, Loaded, MemberList, NodeProcess, NodeStats, Numbers, Owned, Pending, ReadReport, Request, Scratch,
    Started, Stopped, Updated,
};

fn command(name: &str, database: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.args(["--name", name, "--database"]).arg(database);
    command
}

/// A folder with a database, and a node over it.
fn one_node() -> (Scratch, NodeProcess) {
    let scratch = Scratch::new("node").unwrap();
    let mut command = command("a", &scratch.path().join("cities.db"));
    command.arg("--create");
    let node = NodeProcess::spawn(command, PATIENCE).unwrap();
    (scratch, node)
}

fn get(node: &mut NodeProcess, key: &str) -> Option<String> {
    node.ask::<Found>(&Request::Get { key: key.to_owned() }, PATIENCE).unwrap().value
}

#[test]
fn two_processes_load_each_city_once_between_them() {
    let (scratch, a) = one_node();
    let mut joining = command("b", &scratch.path().join("cities.db"));
    joining.args(["--seeds", a.addr(), "--min-members", "2"]);
    let b = NodeProcess::spawn(joining, PATIENCE).unwrap();
    let mut nodes = [a, b];
    for node in &mut nodes {
        let seen: MemberList = node.ask(&Request::WaitMembers { count: 2, within_ms: 10_000 }, PATIENCE).unwrap();
        assert_eq!(seen.members, ["a", "b"]);
    }

    nodes.iter_mut().for_each(|node| node.send(&Request::ReadAll { readers: 4 }).unwrap());
    for node in &mut nodes {
        let report: ReadReport = node.receive(PATIENCE).unwrap();
        assert!(report.is_clean(3_500), "{report:?}");
    }
    let stats = nodes.each_mut().map(|node| node.ask::<NodeStats>(&Request::Stats, PATIENCE).unwrap());
    assert_eq!(stats.iter().map(|stats| stats.fetches).sum::<u64>(), 3_500, "{stats:?}");
    assert!(stats.iter().all(|stats| stats.fetches > 0 && stats.adds_up()), "{stats:?}");
}

#[test]
fn an_update_is_seen_once_its_keys_are_deleted() {
    let (_scratch, mut node) = one_node();
    let keys = vec!["32900".to_owned(), "53654".to_owned()];
    let old = get(&mut node, "32900");

    let updated: Updated = node.ask(&Request::Update { keys: keys.clone(), population: 7 }, PATIENCE).unwrap();
    assert_eq!(updated.rows, 2);
    assert_eq!(get(&mut node, "32900"), old, "nobody told the cache");

    let deleted: Pending = node.ask(&Request::DeleteMany { keys }, PATIENCE).unwrap();
    assert!(deleted.pending.is_empty());
    assert!(get(&mut node, "32900").unwrap().contains("\"population\":7,"));
}

#[test]
fn a_load_goes_on_between_other_requests_and_ends_with_its_counts() {
    let (_scratch, mut node) = one_node();
    let load = Request::Load { keys: 50, marked: vec![7, 60], callers: 2, rate: 500, seed: 1 };
    assert_eq!(node.ask::<Started>(&load, PATIENCE).unwrap().keys, 50);
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let stats: NodeStats = node.ask(&Request::VersionStats, PATIENCE).unwrap();
        if stats.reads > 200 {
            assert!(stats.fetches <= 51, "{stats:?}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "there is no traffic: {stats:?}");
    }
    let loaded: Loaded = node.ask(&Request::StopLoad, PATIENCE).unwrap();
    let stats: NodeStats = node.ask(&Request::VersionStats, PATIENCE).unwrap();
    assert_eq!(
        loaded,
        Loaded { reads: stats.reads, ..Loaded::default() },
        "every read is in a sample, and none was wrong"
    );
    assert!(node.ask::<Loaded>(&Request::StopLoad, PATIENCE).is_err(), "it has ended");
}

#[test]
fn a_raised_number_is_stale_until_it_is_forgotten() {
    let (_scratch, mut node) = one_node();
    let some = || Numbers::These(vec![3, 5]);
    let scan = Request::Scan { numbers: Numbers::First(10), readers: 2 };
    assert!(node.ask::<ReadReport>(&scan, PATIENCE).unwrap().is_clean(10));
    assert_eq!(node.ask::<Updated>(&Request::Raise { numbers: some() }, PATIENCE).unwrap().rows, 2);
    assert_eq!(node.ask::<ReadReport>(&scan, PATIENCE).unwrap().wrong, 2);
    assert!(node.ask::<Pending>(&Request::Forget { numbers: some() }, PATIENCE).unwrap().pending.is_empty());
    assert!(node.ask::<ReadReport>(&scan, PATIENCE).unwrap().is_clean(10));
}

#[test]
fn of_two_nodes_each_number_is_owned_by_one() {
    let (scratch, a) = one_node();
    let mut joining = command("b", &scratch.path().join("cities.db"));
    joining.args(["--seeds", a.addr(), "--min-members", "2"]);
    let b = NodeProcess::spawn(joining, PATIENCE).unwrap();
    let mut nodes = [a, b];
    for node in &mut nodes {
        let _: MemberList = node.ask(&Request::WaitMembers { count: 2, within_ms: 10_000 }, PATIENCE).unwrap();
    }
    let owned = Request::Owned { numbers: Numbers::First(200) };
    let owned = nodes.each_mut().map(|node| node.ask::<Owned>(&owned, PATIENCE).unwrap().numbers);
    assert!(owned.iter().all(|numbers| numbers.len() > 20), "{owned:?}");
    let mut all = owned.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..200));
}

#[test]
fn any_key_and_value_survive_the_way_there_and_back() {
    let (_scratch, mut node) = one_node();
    let text = "two words, \"quotes\",\na line end, Golestān";
    let put = Request::Put { key: text.to_owned(), value: text.to_owned() };
    assert!(node.ask::<Pending>(&put, PATIENCE).unwrap().pending.is_empty());
    assert_eq!(get(&mut node, text).as_deref(), Some(text));
    node.ask::<Pending>(&Request::Delete { key: text.to_owned() }, PATIENCE).unwrap();
    assert_eq!(get(&mut node, text), None);
}

#[test]
fn a_bad_line_or_a_failed_request_is_answered_and_does_not_end_the_node() {
    let (_scratch, mut node) = one_node();
    for line in ["dance\n", "{\"do\":\"dance\"}\n", "\n", "{\"do\":\"get\",\"key\":\"\"}\n"] {
        node.send_line(line).unwrap();
        let error = node.receive::<serde_json::Value>(PATIENCE).unwrap_err();
        assert!(error.to_string().contains("answered with an error"), "{line:?}: {error:#}");
    }
    let waiting = Request::WaitMembers { count: 9, within_ms: 1 };
    let error = node.ask::<MemberList>(&waiting, PATIENCE).unwrap_err();
    assert!(format!("{error:#}").contains("there are 1 members (a), not 9"), "{error:#}");
    assert!(get(&mut node, "32900").is_some());
}

#[test]
fn a_node_ends_when_it_is_told_to_and_when_its_input_is_closed() {
    let (scratch, mut told) = one_node();
    let left_alone = NodeProcess::spawn(command("b", &scratch.path().join("cities.db")), PATIENCE).unwrap();
    told.ask::<Stopped>(&Request::Shutdown, PATIENCE).unwrap();
    assert!(told.wait(PATIENCE).unwrap().success());
    assert!(left_alone.wait(PATIENCE).unwrap().success());
}

#[test]
fn a_node_that_cannot_start_says_so_by_its_end() {
    let scratch = Scratch::new("node").unwrap();
    let database = scratch.path().join("cities.db");
    let failure = |args: &[&str]| {
        let mut command = command("a", &database);
        // Its complaint is for a person, and would only puzzle whoever reads the output of the tests.
        command.args(args).stderr(Stdio::null());
        NodeProcess::spawn(command, PATIENCE).unwrap_err().to_string()
    };
    assert!(failure(&[]).contains("ended without an answer"), "there is no database");
    Cities::create(&database).unwrap();
    assert!(failure(&["--create"]).contains("ended without an answer"), "there is a database");
    assert!(failure(&["--bind", "0.0.0.0:0"]).contains("ended without an answer"), "anyone could connect");
}

/// Far more than anything here takes, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(30);
