//! The program, as a task runs it.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

#[tokio::test]
async fn a_pod_is_listed_once_its_line_is_answered() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_distcache-kube-api"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, output) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
    let mut output = BufReader::new(output).lines();
    let url = output.next_line().await.unwrap().unwrap();

    input.write_all(b"add cache-0 10.0.0.1 3320 starting\n").await.unwrap();
    assert_eq!(output.next_line().await.unwrap().unwrap(), "ok");
    let mut server = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let get = b"GET /api/v1/namespaces/default/pods HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    server.write_all(get).await.unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""podIP":"10.0.0.1""#), "{answer}");

    drop(input);
    assert!(program.wait().await.unwrap().success(), "it ends with its input");
}
