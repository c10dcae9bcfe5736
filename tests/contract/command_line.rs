//! The command line as a shell sees it: exit status, stdout, stderr (`docs/operating.md#exit-status`). The values of flags
//! are tested in `config`.

use std::process::{Command, Output};

fn wsify(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsify"))
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = wsify(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let version = concat!("wsify ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(text(&output.stdout), version);
    assert_eq!(text(&output.stderr), "");

    let output = wsify(&["-help"], &[("WSIFY_LOG_LEVEL", "nonsense")]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("WSIFY_LISTEN_ADDR"));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_wrong_call_is_status_2_and_one_line_on_stderr() {
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rows: [Row; 5] = [
        (&["--no-such-flag", "x"], &[], &["--no-such-flag"]),
        (&["stray"], &[], &["\"stray\""]),
        (
            &["-max-channels=many"],
            &[],
            &["--max-channels", "\"many\"", "whole number"],
        ),
        (
            &[],
            &[("WSIFY_PING_INTERVAL", "often")],
            &["WSIFY_PING_INTERVAL", "\"often\"", "500ms"],
        ),
        (&["--broker-driver=redis"], &[], &["--broker-dsn"]),
    ];
    for (arguments, env, named) in rows {
        let output = wsify(arguments, env);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        let line = text(&output.stderr);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        for name in named {
            assert!(line.contains(name), "{line}");
        }
    }
}
