//! The floors of a command that an authorizer is asked about: one `recv`, a `POST` and its answer, one `send`.
//!
//! Two of them: one loop whose calls do not block, which is the limit; and one loop beside blocking threads, which is what a
//! server can be that takes its HTTP from a library, and which may post many questions at a time. Both keep their
//! connections alive, and believe every answer.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::echo::answer;
use super::{Floor, Input, Read};
use crate::wire::{self, Command};

/// As many as the loop without threads would hardly need more of.
pub const THREADS: usize = 32;

/// A command that waits: its client's slot, and the digits of its id.
#[derive(Clone, Copy)]
struct Asked {
    slot: usize,
    id: [u8; 9],
}

/// What is asked: as much as wsify asks.
fn body(room: usize) -> String {
    format!(
        r#"{{"command":"join","args":{{"channel":"room-{room:08}"}},"connection":{{"id":"0123456789abcdef-1f","remote_addr":"127.0.0.1:51814","query":{{}}}}}}"#
    )
}

/// A call with one question.
fn question(room: usize, out: &mut Vec<u8>) {
    post(&body(room), out);
}

/// A call with an array of questions.
fn questions(batch: &[(usize, Asked)], out: &mut Vec<u8>) {
    let bodies: Vec<String> = batch.iter().map(|(room, _)| body(*room)).collect();
    post(&format!("[{}]", bodies.join(",")), out);
}

fn post(body: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ",
    );
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// Has every command of a client asked by `ask`, with the room and the client that waits for the answer.
fn commands(
    floor: &mut Floor,
    slot: usize,
    input: &mut Input,
    mut ask: impl FnMut(&mut Floor, usize, Asked) -> io::Result<()>,
) -> io::Result<()> {
    floor.shake_hands(slot, input);
    while let Some((_, text)) = input.frame() {
        if let Some(Command::Join { room, id }) = wire::command(input.get(text)) {
            let id = id.try_into().map_err(io::Error::other)?;
            ask(floor, room, Asked { slot, id })?;
        }
    }
    floor.keep(slot, input);
    Ok(())
}

/// One loop, non-blocking calls.
pub fn run_loop(mut floor: Floor, authorizer: u16) -> io::Result<()> {
    let mut input = Input::new();
    // By slot: the command that a connection to the authorizer asks about.
    let mut calls: Vec<Option<Asked>> = Vec::new();
    let mut idle: Vec<usize> = Vec::new();
    let mut bytes = Vec::new();
    loop {
        floor.wait(None)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if read != Read::Bytes {
                continue;
            }
            if let Some(asked) = calls.get_mut(slot).and_then(Option::take) {
                if input.answered() {
                    bytes.clear();
                    answer(&asked.id, &mut bytes);
                    floor.send(asked.slot, &bytes);
                    idle.push(slot);
                } else {
                    calls[slot] = Some(asked);
                }
                floor.keep(slot, &input);
                continue;
            }
            commands(&mut floor, slot, &mut input, |floor, room, asked| {
                let call = match idle.pop() {
                    Some(call) => call,
                    None => {
                        let link = TcpStream::connect((Ipv4Addr::LOCALHOST, authorizer))?;
                        link.set_nodelay(true)?;
                        link.set_nonblocking(true)?;
                        floor.adopt(link.into())?
                    }
                };
                if calls.len() <= call {
                    calls.resize(call + 1, None);
                }
                calls[call] = Some(asked);
                bytes.clear();
                question(room, &mut bytes);
                floor.send(call, &bytes);
                Ok(())
            })?;
        }
    }
}

/// Whether all of an answer has come.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = wire::head_end(answer) else {
        return false;
    };
    let length = wire::header_value(&answer[..end], "content-length").unwrap_or_default();
    let digit = |sum, digit: &u8| sum * 10 + usize::from(digit - b'0');
    answer.len() >= end + length.iter().fold(0, digit)
}

/// What loop and threads share.
#[derive(Default)]
struct Shared {
    questions: Mutex<VecDeque<(usize, Asked)>>,
    asked: Condvar,
    answers: Mutex<Vec<Asked>>,
}

/// One loop and this many blocking threads, each of which posts up to `most` questions at a time: more than one as an
/// array.
pub fn run_threads(
    mut floor: Floor,
    authorizer: u16,
    threads: usize,
    most: usize,
) -> io::Result<()> {
    let shared = Arc::new(Shared::default());
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let bell = floor.adopt(near.into())?;
    for _ in 0..threads {
        let (shared, mut far) = (Arc::clone(&shared), far.try_clone()?);
        thread::spawn(move || -> io::Result<()> {
            let mut link = TcpStream::connect((Ipv4Addr::LOCALHOST, authorizer))?;
            link.set_nodelay(true)?;
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            let mut batch = Vec::new();
            loop {
                let waiting = shared.questions.lock();
                let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
                let waited = shared.asked.wait_while(waiting, |it| it.is_empty());
                let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
                let count = waiting.len().min(most);
                batch.clear();
                batch.extend(waiting.drain(..count));
                drop(waiting);
                bytes.clear();
                match batch.as_slice() {
                    [(room, _)] if most == 1 => question(*room, &mut bytes),
                    batch => questions(batch, &mut bytes),
                }
                link.write_all(&bytes)?;
                let mut filled = 0;
                while !is_whole(&buffer[..filled]) {
                    match link.read(&mut buffer[filled..])? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        got => filled += got,
                    }
                }
                let answers = shared.answers.lock();
                let mut answers = answers.unwrap_or_else(PoisonError::into_inner);
                let first = answers.is_empty();
                answers.extend(batch.iter().map(|(_, asked)| *asked));
                drop(answers);
                if first {
                    far.write_all(&[1])?;
                }
            }
        });
    }
    let mut input = Input::new();
    let mut bytes = Vec::new();
    loop {
        floor.wait(None)?;
        while let Some((slot, read)) = floor.next(&mut input)? {
            if read != Read::Bytes {
                continue;
            }
            if slot != bell {
                commands(&mut floor, slot, &mut input, |_, room, asked| {
                    let questions = shared.questions.lock();
                    let mut questions = questions.unwrap_or_else(PoisonError::into_inner);
                    questions.push_back((room, asked));
                    drop(questions);
                    shared.asked.notify_one();
                    Ok(())
                })?;
                continue;
            }
            let answers = shared.answers.lock();
            let answers = std::mem::take(&mut *answers.unwrap_or_else(PoisonError::into_inner));
            for asked in answers {
                bytes.clear();
                answer(&asked.id, &mut bytes);
                floor.send(asked.slot, &bytes);
            }
        }
    }
}
