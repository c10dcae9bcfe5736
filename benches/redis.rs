//! What sharing channels through redis costs: two nodes over redis beside one on memory, ten thousand subscriptions, and one
//! redis beside a cluster of three.
//!
//! ```text
//! cargo bench --bench redis
//! ```
//!
//! Needs a `redis-server` in the path, and says so where there is none. Servers, redis and clients share the machine, so
//! the rates are rough; the CPU time of the servers, from `/proc/PID/task/*/schedstat`, is less so. Every member counts
//! what it hears.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MEMBERS: usize = 50;
const PUBLISHERS: usize = 16;
const MESSAGES: usize = 500;
const CLIENTS: usize = 10;
const CHANNELS: usize = 1000;
/// With many channels: how many, and of the clients on each node each is in this many of them.
const SPREAD: usize = 60;
const EACH: usize = 6;
const SPREAD_MESSAGES: usize = 1_500;
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    // `cargo test --benches` wants no figures.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("run me with: cargo bench --bench redis");
        return Ok(());
    }
    let there = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if there.is_err() {
        println!("skipped: there is no redis-server (Debian's package redis-server has one)");
        return Ok(());
    }
    let alone = [Server::node(&[])?];
    fan_out("one node on memory", &alone)?;
    let port = free_port()?;
    let redis = Server::redis(port)?;
    let dsn = format!("redis://127.0.0.1:{port}");
    let shared = ["--broker-driver", "redis", "--broker-dsn", &dsn];
    let nodes = [Server::node(&shared)?, Server::node(&shared)?];
    fan_out("two nodes over redis", &nodes)?;
    let brokers = [redis];
    spread("two nodes over one redis", &nodes, &brokers)?;
    let [redis] = brokers;
    subscriptions(&nodes[0], redis, port)?;
    drop(nodes);
    let (brokers, dsn) = cluster()?;
    let shared = ["--broker-driver", "redis", "--broker-dsn", &dsn];
    let nodes = [Server::node(&shared)?, Server::node(&shared)?];
    spread("two nodes over a cluster of three", &nodes, &brokers)
}

/// `PUBLISHERS` clients broadcast to `SPREAD` channels in turn, each of which has a member on each node.
fn spread(name: &str, nodes: &[Server], brokers: &[Server]) -> Result<()> {
    let all = PUBLISHERS * SPREAD_MESSAGES;
    let mut members = Vec::new();
    for node in nodes {
        for first in (0..SPREAD).step_by(EACH) {
            let mut member = node.client()?;
            for channel in first..first + EACH {
                let join =
                    format!(r#"{{"id":1,"command":"join","args":{{"channel":"{channel}"}}}}"#);
                ask(&mut member, &join)?;
            }
            members.push(member);
        }
    }
    let mut publishers = Vec::new();
    for at in 0..PUBLISHERS {
        publishers.push(nodes[at % nodes.len()].client()?);
    }
    let (before, before_brokers) = (cpu_ns(nodes)?, cpu_ns(brokers)?);
    let begun = Instant::now();
    let listening = members.into_iter().map(|mut member| {
        thread::spawn(move || -> Result<()> {
            for _ in 0..all / SPREAD * EACH {
                member.read()?;
            }
            Ok(())
        })
    });
    let listening: Vec<_> = listening.collect();
    let content = "x".repeat(100);
    for nth in 0..all {
        let channel = nth % SPREAD;
        let message = format!(
            r#"{{"command":"broadcast","args":{{"channel":"{channel}","content":"{content}"}}}}"#
        );
        publishers[nth % PUBLISHERS].send(Message::text(message))?;
    }
    for member in listening {
        member.join().map_err(|_| "a member panicked")??;
    }
    let took = begun.elapsed().as_secs_f64();
    let cpu = (cpu_ns(nodes)? - before) as f64;
    let broker_cpu = (cpu_ns(brokers)? - before_brokers) as f64;
    let deliveries = (all * nodes.len()) as f64;
    println!(
        "{name}: {:.0} messages/s, {:.0} CPU-ns a delivery, {:.0} CPU-ns of redis a message ({SPREAD} channels)",
        all as f64 / took,
        cpu / deliveries,
        broker_cpu / all as f64,
    );
    Ok(())
}

/// Three masters with a third of the slots each, and their DSN.
fn cluster() -> Result<(Vec<Server>, String)> {
    let mut masters = Vec::new();
    for _ in 0..3 {
        let (port, bus) = (free_port()?, free_port()?);
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ]);
        command.args([
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus.to_string(),
        ]);
        let file = std::env::temp_dir().join(format!("wsify-bench-{port}.conf"));
        command.arg("--cluster-config-file").arg(&file);
        masters.push((Server::start(&mut command, port)?, bus));
        // It is open, and nothing needs to find it again.
        let _ = std::fs::remove_file(file);
    }
    let (first, first_bus) = (masters[0].0.port, masters[0].1);
    for (nth, (master, _)) in masters.iter().enumerate() {
        let from = nth * 16_384 / 3;
        let to = (nth + 1) * 16_384 / 3 - 1;
        redis(master.port, &format!("CLUSTER ADDSLOTSRANGE {from} {to}"))?;
        if nth > 0 {
            redis(
                master.port,
                &format!("CLUSTER SET-CONFIG-EPOCH {}", nth + 1),
            )?;
            redis(
                master.port,
                &format!("CLUSTER MEET 127.0.0.1 {first} {first_bus}"),
            )?;
        }
    }
    for (master, _) in &masters {
        wait(|| Ok(redis(master.port, "CLUSTER INFO")?.contains("cluster_slots_ok:16384")))?;
    }
    let dsn = format!("redis-cluster://127.0.0.1:{first}");
    Ok((masters.into_iter().map(|(master, _)| master).collect(), dsn))
}

/// What redis answers to a command, in one piece.
fn redis(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// `PUBLISHERS` clients broadcast `MESSAGES` each to `MEMBERS`, spread over the nodes.
fn fan_out(name: &str, nodes: &[Server]) -> Result<()> {
    let all = PUBLISHERS * MESSAGES;
    let mut members = Vec::new();
    for at in 0..MEMBERS {
        let mut member = nodes[at % nodes.len()].client()?;
        ask(
            &mut member,
            r#"{"id":1,"command":"join","args":{"channel":"c"}}"#,
        )?;
        members.push(member);
    }
    let mut publishers = Vec::new();
    for at in 0..PUBLISHERS {
        publishers.push(nodes[at % nodes.len()].client()?);
    }
    let cpu = cpu_ns(nodes)?;
    let begun = Instant::now();
    let listening = members.into_iter().map(|mut member| {
        thread::spawn(move || -> Result<()> {
            for _ in 0..all {
                member.read()?;
            }
            Ok(())
        })
    });
    let listening: Vec<_> = listening.collect();
    let content = "x".repeat(100);
    let message =
        format!(r#"{{"command":"broadcast","args":{{"channel":"c","content":"{content}"}}}}"#);
    for _ in 0..MESSAGES {
        for publisher in &mut publishers {
            publisher.send(Message::text(message.as_str()))?;
        }
    }
    for member in listening {
        member.join().map_err(|_| "a member panicked")??;
    }
    let took = begun.elapsed().as_secs_f64();
    let deliveries = (all * MEMBERS) as f64;
    let cpu = (cpu_ns(nodes)? - cpu) as f64;
    println!(
        "{name}: {:.0} deliveries/s, {:.0} CPU-ns a delivery, {:.0} CPU-ns a message (to {MEMBERS} members)",
        deliveries / took,
        cpu / deliveries,
        cpu / all as f64,
    );
    Ok(())
}

/// This many channels are joined, redis is ended and started again, and all are subscribed once more.
fn subscriptions(node: &Server, redis: Server, port: u16) -> Result<()> {
    let cpu = cpu_ns(std::slice::from_ref(node))?;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut socket = node.client()?;
        for channel in 0..CHANNELS {
            let join =
                format!(r#"{{"id":1,"command":"join","args":{{"channel":"{client}-{channel}"}}}}"#);
            socket.send(Message::text(join))?;
        }
        clients.push(socket);
    }
    for client in &mut clients {
        for _ in 0..CHANNELS {
            client.read()?;
        }
    }
    let count = CLIENTS * CHANNELS;
    let used = (cpu_ns(std::slice::from_ref(node))? - cpu) as f64 / count as f64;
    println!(
        "{count} channels joined: {:.0} ms, {used:.0} CPU-ns each",
        millis(begun)
    );

    drop(redis);
    wait(|| Ok(node.health()?.contains("503")))?;
    let cpu = cpu_ns(std::slice::from_ref(node))?;
    let begun = Instant::now();
    let _redis = Server::redis(port)?;
    let up = millis(begun);
    wait(|| Ok(node.health()?.contains(" 200 ")))?;
    let used = (cpu_ns(std::slice::from_ref(node))? - cpu) as f64 / count as f64;
    println!(
        "{count} subscriptions restored: {:.0} ms after redis was there, back-off included, {used:.0} CPU-ns each",
        millis(begun) - up,
    );
    Ok(())
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// Says something and waits for the answer.
fn ask(socket: &mut WebSocket<TcpStream>, message: &str) -> Result<()> {
    socket.send(Message::text(message))?;
    let answer = socket.read()?.into_text()?;
    if answer.contains("\"ok\":true") {
        Ok(())
    } else {
        Err(answer.as_str().into())
    }
}

fn wait(mut until: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !until()? {
        if begun.elapsed() > TIMEOUT {
            return Err("it took too long".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn cpu_ns(servers: &[Server]) -> Result<u64> {
    let mut sum = 0;
    for server in servers {
        for task in std::fs::read_dir(format!("/proc/{}/task", server.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().unwrap_or_default();
            sum += first.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// A process of ours that listens, ended when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(command: &mut Command, port: u16) -> Result<Server> {
        let child = command.stdout(Stdio::null()).spawn()?;
        let server = Server { child, port };
        wait(|| Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()))?;
        Ok(server)
    }

    fn redis(port: u16) -> Result<Server> {
        let port_text = port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port_text]);
        Server::start(&mut command, port)
    }

    fn node(flags: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsify"));
        command.args(["--ping-interval", "0", "--max-queue-size", "64MiB"]);
        command.args(["--listen-addr", &format!("127.0.0.1:{port}")]);
        let server = Server::start(command.args(flags), port)?;
        wait(|| Ok(server.health()?.contains(" 200 ")))?;
        Ok(server)
    }

    fn client(&self) -> Result<WebSocket<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let url = format!("ws://127.0.0.1:{}/ws", self.port);
        Ok(tungstenite::client(url, stream)
            .map_err(|e| e.to_string())?
            .0)
    }

    /// What `/health` answers.
    fn health(&self) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
