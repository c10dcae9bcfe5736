//! What becomes of questions when the authorizer fails (`docs/authorizer.md#answers`).

#[cfg_attr(not(test), expect(dead_code, reason = "the hub asks it next"))]
mod breaker;
