//! A stand-in for Slack's incoming webhooks: takes every message.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// A server that lives as long as the test's process.
pub struct FakeSlack {
    pub url: String,
    messages: Arc<Mutex<Vec<Value>>>,
}

impl FakeSlack {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/services/T0/B0/secret", listener.local_addr().expect("its address"));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let received = messages.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let message = take(stream).expect("a webhook request");
                received.lock().expect("the messages").push(message);
            }
        });
        Self { url, messages }
    }

    /// The text of each message so far.
    pub fn texts(&self) -> Vec<String> {
        let messages = self.messages.lock().expect("the messages");
        messages.iter().map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn take(stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()?;
    serde_json::from_slice(&body).ok()
}
