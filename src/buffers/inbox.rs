//! Bytes in: what a connection has received and not yet used.

/// Bytes that were received from a client and not yet parsed, or that wait while a question is open.
///
/// One machine word while empty, which it is in an idle connection.
#[derive(Debug, Default)]
pub struct Inbox(Option<Box<Held>>);

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |h| h.bytes.len() - h.start)
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> &[u8] {
        let held = self.0.as_ref();
        held.and_then(|held| held.bytes.get(held.start..))
            .unwrap_or_default()
    }

    /// The first byte that waits.
    pub fn first(&self) -> Option<u8> {
        let held = self.0.as_ref()?;
        held.bytes.get(held.start).copied()
    }

    /// Appends bytes to those that wait.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let held = self.0.get_or_insert_default();
        if held.start > 0 && held.bytes.len() + bytes.len() > held.bytes.capacity() {
            held.bytes.drain(..held.start);
            held.start = 0;
        }
        held.bytes.extend_from_slice(bytes);
    }

    /// Takes all bytes out. Those that are not used are returned with [`Inbox::put_back`].
    pub fn take(&mut self) -> Taken {
        match self.0.take() {
            Some(held) => Taken(held),
            None => Taken(Box::default()),
        }
    }

    /// Returns what [`Inbox::take`] took, less the first `used` bytes.
    pub fn put_back(&mut self, mut taken: Taken, used: usize) {
        taken.0.start += used;
        if taken.0.start < taken.0.bytes.len() {
            self.0 = Some(taken.0);
        }
    }
}

/// An inbox's bytes while they are worked on.
#[derive(Debug)]
pub struct Taken(Box<Held>);

impl Taken {
    pub fn bytes(&mut self) -> &mut [u8] {
        let start = self.0.start;
        self.0.bytes.get_mut(start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_gives_back_what_was_not_used() {
        let mut inbox = Inbox::default();
        inbox.append(b"abc");
        inbox.append(b"def");
        let mut taken = inbox.take();
        assert_eq!(taken.bytes(), b"abcdef");
        assert!(inbox.is_empty());
        inbox.put_back(taken, 4);
        inbox.append(b"g");
        assert_eq!((inbox.len(), inbox.bytes()), (3, &b"efg"[..]));
        let mut taken = inbox.take();
        assert_eq!(taken.bytes(), b"efg");
        inbox.put_back(taken, 3);
        assert!(inbox.is_empty());
    }
}
