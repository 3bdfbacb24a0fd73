//! Whoever may publish on the subject can do no more than waste a little time.

use std::net::SocketAddr;

use distcache_discovery::Provider;

use super::server::Server;
use super::{SUBJECT, eventually, found, node, published, quick};

fn here(id: u128, addr: &str) -> String {
    format!(r#"{{"v":1,"kind":"here","from":"{id:032x}","seq":1,"name":"fake","addr":"{addr}","every_ms":60000}}"#)
}

/// Publishes on the subject, and waits until the server has it all.
async fn flood(server: &Server, messages: impl IntoIterator<Item = Vec<u8>>) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut own = client.subscribe("flood.end").await.unwrap();
    for (count, message) in messages.into_iter().enumerate() {
        client.publish(SUBJECT, message.into()).await.unwrap();
        if count % 500 == 0 {
            client.flush().await.unwrap();
        }
    }
    client.publish("flood.end", "".into()).await.unwrap();
    futures_util::StreamExt::next(&mut own).await.unwrap();
}

#[tokio::test]
async fn garbage_is_counted_and_dropped() {
    let Some(server) = Server::start("") else { return };
    let (one, _two) = (published(quick(&server), 1).await, published(quick(&server), 2).await);
    eventually("they see each other", || async { found(&one).await == [2] }).await;
    let messages = (0..20_000u32).map(|count| match count % 8 {
        0 => Vec::new(),
        1 => vec![0xff; 700],
        2 => b"{\"v\":1".to_vec(),
        3 => vec![b'['; 1024],
        4 => here(count.into(), "10.0.0.9:0").into_bytes(),
        5 => here(count.into(), "0.0.0.0:1").into_bytes(),
        6 => here(count.into(), "[ff02::1]:1").into_bytes(),
        _ => vec![b'x'; 100_000 * usize::from(count % 800 == 7)],
    });
    flood(&server, messages).await;
    eventually("the garbage was seen", || async { one.malformed() > 100 }).await;
    assert_eq!(found(&one).await, [2]);
}

#[tokio::test]
async fn five_thousand_fakes_drive_no_node_out() {
    let Some(server) = Server::start("") else { return };
    let (one, two) = (published(quick(&server), 1).await, published(quick(&server), 2).await);
    eventually("they see each other", || async { found(&one).await == [2] && found(&two).await == [1] }).await;
    let fakes = (1..=5_000u32).map(|count| {
        let addr = SocketAddr::from(((0x0b00_0000 + count).to_be_bytes(), 3320));
        here(count.into(), &addr.to_string()).into_bytes()
    });
    flood(&server, fakes).await;
    eventually("as many as there is room for", || async { one.discover().await.unwrap().len() == 1024 }).await;
    for _ in 0..5 {
        let seeds = one.discover().await.unwrap();
        assert_eq!(seeds.len(), 1024);
        assert!(seeds.is_sorted() && seeds.iter().any(|seed| seed.addr == node(2).addr));
    }
    assert_eq!(one.malformed(), 0);
}

#[tokio::test]
async fn a_question_is_answered_at_the_askers_own_subject_and_nowhere_else() {
    let Some(server) = Server::start("") else { return };
    let one = published(quick(&server), 1).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let who = |from: &str| format!(r#"{{"v":1,"kind":"who","from":"{from}","seq":1}}"#);
    let (own, other) = (format!("{:032x}", 1), format!("{:032x}", 2));
    let mut elsewhere = client.subscribe("elsewhere").await.unwrap();
    let mut others = client.subscribe(format!("{SUBJECT}.reply.{other}")).await.unwrap();
    let mut answers = client.subscribe(format!("{SUBJECT}.reply.{own}")).await.unwrap();
    for reply in ["elsewhere".to_owned(), format!("{SUBJECT}.reply.{other}"), format!("{SUBJECT}.reply.{own}")] {
        client.publish_with_reply(SUBJECT, reply, who(&own).into()).await.unwrap();
    }
    use futures_util::StreamExt as _;
    let answer = answers.next().await.unwrap();
    assert!(String::from_utf8(answer.payload.to_vec()).unwrap().contains("10.0.0.1:1"));
    for subscriber in [&mut elsewhere, &mut others] {
        assert!(futures_util::future::poll_immediate(subscriber.next()).await.is_none());
    }
    assert_eq!(one.malformed(), 2);
    // The bucket is watched by nobody here, and what lies in it is nobody's.
    let bucket = quick(&server).key_value("nodes");
    bucket.start().await.unwrap();
    let store = async_nats::jetstream::new(client).get_key_value("nodes").await.unwrap();
    store.put("another.cluster", "x".into()).await.unwrap();
    store.put(format!("{SUBJECT}.garbage"), "x".into()).await.unwrap();
    store.put(format!("{SUBJECT}.{other}"), here(3, "10.0.0.3:3").into()).await.unwrap();
    store.put(format!("{SUBJECT}.{own}"), here(1, "10.0.0.2:2").into()).await.unwrap();
    assert_eq!(found(&bucket).await, [2]);
    assert_eq!(bucket.malformed(), 2);
}
