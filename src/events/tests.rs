//! The thread and the loop's side, over sockets.
