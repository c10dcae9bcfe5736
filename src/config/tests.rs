//! Command lines and variables, and what they come to.

use super::flags::ValueKind;
use super::*;
use std::os::unix::ffi::OsStringExt;

fn read(arguments: &[&str], env: &[(&str, &str)]) -> Result<Config, Stop> {
    let lookup = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    Config::read(arguments.iter().map(OsString::from), lookup)
}

fn given(flag: &str, value: &str) -> Result<Config, Stop> {
    read(&[&format!("--{flag}={value}")], &[])
}

/// The error line for `--flag=value`, whose form it checks.
fn refusal(flag: &str, value: &str) -> String {
    let stop = given(flag, value).expect_err(value);
    assert_eq!(stop.status, 2, "{stop:?}");
    assert!(!stop.text.contains('\n'), "{stop:?}");
    let begin = format!("wsify: --{flag}: invalid value ");
    assert!(stop.text.starts_with(&begin), "{stop:?}");
    assert!(stop.text.contains(": expected "), "{stop:?}");
    stop.text
}

/// `--flag=value` is refused, in a line that shows the value.
fn refused(flag: &str, values: &[&str]) {
    for value in values {
        let line = refusal(flag, value);
        assert!(line.contains(&format!("{value:?}")), "{line}");
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.listen_addr, [Listen::AllInterfaces(3000)]);
    assert_eq!(config.authorizer_url, None);
    assert_eq!(config.authorizer_timeout, Duration::from_secs(5));
    assert_eq!(config.authorizer_workers, Workers::AsFdsAllow(256));
    assert_eq!(config.authorizer_queue, 10_000);
    assert_eq!(config.authorizer_batch, 1);
    assert_eq!(config.authorizer_key, []);
    assert_eq!(config.broker, BrokerChoice::Memory);
    assert_eq!(config.broker_prefix, "");
    assert_eq!(config.broadcasting_key, None);
    assert_eq!(config.allowed_origins, Origins::Any);
    assert_eq!(config.trusted_proxies, Proxies::default());
    assert!(!config.proxy_protocol);
    assert_eq!(config.max_connections, None);
    assert_eq!(config.max_connections_per_ip, 0);
    assert_eq!(config.max_message_size, 1 << 20);
    assert_eq!(config.max_channels, 1_000);
    assert_eq!(config.max_message_rate, 0);
    assert!(!config.compression);
    assert_eq!(config.compression_min_size, 512);
    assert_eq!(config.max_queue_size, 1 << 20);
    assert_eq!(config.max_total_queue_size, 1 << 30);
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.ping_interval, Some(Duration::from_secs(25)));
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert_eq!(config.log_level, Level::Info);
}

#[test]
fn a_flag_is_spelled_in_four_ways() {
    for arguments in [
        &["--broker-prefix", "p"][..],
        &["--broker-prefix=p"],
        &["-broker-prefix", "p"],
        &["-broker-prefix=p"],
        // The last of two wins.
        &["--broker-prefix", "q", "-broker-prefix=p"],
    ] {
        let config = read(arguments, &[]).unwrap();
        assert_eq!(config.broker_prefix, "p", "{arguments:?}");
    }
    for (arguments, prefix) in [
        (&["--broker-prefix=-x=y"][..], "-x=y"),
        (&["--broker-prefix", "--help"], "--help"),
        (&["--broker-prefix", "--"], "--"),
        (&["--broker-prefix="], ""),
        (&["--broker-prefix", ""], ""),
    ] {
        let config = read(arguments, &[]).unwrap();
        assert_eq!(config.broker_prefix, prefix, "{arguments:?}");
    }
}

#[test]
fn a_variable_counts_where_there_is_no_flag() {
    let variables = [
        ("WSIFY_MAX_CHANNELS", "7"),
        ("WSIFY_LISTEN_ADDR", ":1, unix:/run/w.sock ,"),
        ("WSIFY_LOG_LEVEL", ""),
        ("WSIFY_PORT", "tcp://10.0.0.1:3000"),
        ("MAX_QUEUE_SIZE", "nonsense"),
    ];
    let config = read(&[], &variables).unwrap();
    assert_eq!(config.max_channels, 7);
    let unix = Listen::Unix("/run/w.sock".into());
    assert_eq!(config.listen_addr, [Listen::AllInterfaces(1), unix]);
    assert_eq!(config.log_level, Level::Info);
    let config = read(&["--max-channels=8", "-listen-addr=:2"], &variables).unwrap();
    assert_eq!(config.max_channels, 8);
    assert_eq!(config.listen_addr, [Listen::AllInterfaces(2)]);
    // An empty flag is given all the same.
    let key = [("WSIFY_BROADCASTING_KEY", "k")];
    let config = read(&["--broadcasting-key="], &key).unwrap();
    assert_eq!(config.broadcasting_key, None);
    // The variable of a given flag is not read.
    let nonsense = [("WSIFY_MAX_CHANNELS", "nonsense")];
    assert!(read(&["--max-channels=8"], &nonsense).is_ok());
    let stop = read(&[], &nonsense).unwrap_err();
    assert_eq!(
        stop.text,
        "wsify: WSIFY_MAX_CHANNELS: invalid value \"nonsense\": \
         expected a whole number from 1 to 1000000"
    );
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["-h"], &["-help"], &["--version"]] {
        let stop = read(arguments, &[]).unwrap_err();
        assert_eq!(stop.status, 0, "{arguments:?}");
    }
    let stop = read(&["-version"], &[]).unwrap_err();
    assert_eq!(stop.text, concat!("wsify ", env!("CARGO_PKG_VERSION")));
    let help = read(&["--max-channels", "1", "--help"], &[]).unwrap_err();
    let words = help.text.split_whitespace().collect::<Vec<_>>().join(" ");
    for flag in FLAGS {
        let (_, about) = flag.about.split_at(1);
        for shown in [&format!("--{}", flag.name), about] {
            assert!(words.contains(shown), "{shown}");
        }
        if flag.kind != ValueKind::Switch {
            let spelled = format!("--{} {}", flag.name, flag.value);
            assert!(words.contains(&spelled), "{spelled}");
            assert!(words.contains(flag.default), "{}", flag.name);
        }
    }
    let wide = help.text.lines().find(|line| line.len() > 80);
    assert_eq!(wide, None);
    let headings: Vec<_> = help
        .text
        .lines()
        .filter_map(|line| line.strip_suffix(':'))
        .filter(|line| FLAGS.iter().any(|flag| flag.group == *line))
        .collect();
    let mut groups: Vec<_> = FLAGS.iter().map(|flag| flag.group).collect();
    groups.dedup();
    assert_eq!(
        headings, groups,
        "each heading once, in the order of the table"
    );
}

#[test]
fn an_unknown_flag_is_refused_in_one_line() {
    for (arguments, named) in [
        (&["--lisen-addr", ":80"][..], "--lisen-addr"),
        (&["--lisen-addr=secret"], "--lisen-addr"),
        (&["-x"], "--x"),
        (&["--help=me"], "--help"),
        (&["--lis\nten\u{1b}"], r"--lis\nten\u{1b}"),
        (&["8080"], "\"8080\""),
        (&["--max-channels", "1", "stray"], "\"stray\""),
        (&["--"], "\"--\""),
        (&["-"], "\"-\""),
        (&["--=1"], "\"--=1\""),
        (&[""], "\"\""),
        (&["--log-level"], "error|warn|info|debug"),
    ] {
        let stop = read(arguments, &[]).unwrap_err();
        assert_eq!(stop.status, 2, "{arguments:?}");
        assert!(stop.text.contains(named), "{stop:?}");
        assert!(!stop.text.contains('\n'), "{stop:?}");
        assert!(!stop.text.contains("secret"), "{stop:?}");
    }
    let stop = read(&["-sausages"], &[]).unwrap_err();
    assert!(
        stop.text
            .contains("--listen-addr, --reuse-port, --authorizer-url")
    );
}

#[test]
fn a_typing_error_is_answered_with_the_nearest_name() {
    for (arguments, meant) in [
        (&["--lisen-addr", ":80"][..], Some("--listen-addr")),
        (&["-max-conections=5"], Some("--max-connections")),
        (&["--Drain-Timeout=5s"], Some("--drain-timeout")),
        (&["--hlep"], Some("--help")),
        (&["--verison"], Some("--version")),
        (&["--sausages"], None),
        (&["--port=80"], None),
        (&["--x"], None),
        (&["--log-level=wran"], Some("warn")),
        (&["--log-level=DEBUGG"], Some("debug")),
        (&["--log-level=purple"], None),
        (&["--broker-driver=reddis"], Some("redis")),
        (&["--broker-driver=kafka"], None),
        (&["--max-channels=max-channel"], None),
    ] {
        let stop = read(arguments, &[]).unwrap_err();
        let hint = stop.text.split_once(" did you mean ");
        let hint = hint.and_then(|(_, rest)| rest.split_once('?'));
        assert_eq!(hint.map(|(word, _)| word), meant, "{stop:?}");
    }
    let long = format!("--{}", "x".repeat(1_000_000));
    assert_eq!(read(&[&long], &[]).unwrap_err().status, 2);
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let odd = || OsString::from_vec(b"--broker-prefix=\xff".to_vec());
    let arguments = [
        vec![odd()],
        vec!["--broker-prefix".into(), OsString::from_vec(vec![0xff])],
    ];
    for arguments in arguments {
        let stop = Config::read(arguments, |_| None).unwrap_err();
        assert_eq!(stop.status, 2);
        assert!(stop.text.ends_with("is not UTF-8"), "{stop:?}");
    }
    let env = |name: &str| (name == "WSIFY_BROADCASTING_KEY").then(odd);
    let stop = Config::read([], env).unwrap_err();
    assert_eq!(stop.text, "wsify: WSIFY_BROADCASTING_KEY is not UTF-8");
}

#[test]
fn listen_addresses() {
    let ip = |text: &str| Listen::Ip(text.parse().unwrap());
    let host = |name: &str, port| Listen::Host(name.to_owned(), port);
    for (text, expected) in [
        (":0", Listen::AllInterfaces(0)),
        (":65535", Listen::AllInterfaces(65535)),
        ("127.0.0.1:80", ip("127.0.0.1:80")),
        ("[::1]:80", ip("[::1]:80")),
        ("[fe80::1%2]:80", ip("[fe80::1%2]:80")),
        ("localhost:80", host("localhost", 80)),
        ("my_host.example.com.:80", host("my_host.example.com.", 80)),
        (
            "unix:/run/wsify.sock",
            Listen::Unix("/run/wsify.sock".into()),
        ),
    ] {
        let config = given("listen-addr", text).unwrap();
        assert_eq!(config.listen_addr, [expected], "{text}");
        assert_eq!(config.listen_addr[0].to_string(), text);
    }
    let config = read(&["-listen-addr", ":1", "--listen-addr=:2,:3"], &[]).unwrap();
    assert_eq!(config.listen_addr, [1, 2, 3].map(Listen::AllInterfaces));
    let long = format!("unix:/{}", "x".repeat(107));
    refused(
        "listen-addr",
        &[
            "",
            ",",
            "3000",
            ":",
            ":x",
            ":-1",
            ":+1",
            ":65536",
            "host",
            "host:",
            "::1:80",
            "*:80",
            "[::1]",
            "[::1",
            "[::1]80",
            "[]:80",
            "[1.2.3.4]:80",
            "1.2.3.4.5:80",
            "1.2.3:80",
            "256.1.1.1:80",
            "http://host:80",
            "ho st:80",
            "unix:",
            "unix:run",
            ":1,x",
            &long,
        ],
    );
}

#[test]
fn authorizer_urls() {
    for url in [
        "http://localhost",
        "http://127.0.0.1:8000/auth?x=y",
        "https://user:pass@auth.example.com/a/b",
        "HTTP://host/",
        "http://[::1]:9/",
        "http://my_service:9000",
    ] {
        let found = given("authorizer-url", url).unwrap().authorizer_url;
        assert!(found.is_some(), "{url}");
    }
    assert_eq!(given("authorizer-url", "").unwrap().authorizer_url, None);
    refused(
        "authorizer-url",
        &[
            "localhost",
            "localhost:8000",
            "/auth",
            "ftp://host/",
            "http://",
            "http:///auth",
            "http://:80/",
            "http://host:0/",
            "http://host:99999/",
            "http://host:/",
            "http://ho st/",
            "http://[::1/",
            " http://h/",
        ],
    );
}

#[test]
fn broker_flags_are_read() {
    let stop = given("broker-driver", "redis").unwrap_err();
    assert!(
        stop.text
            .starts_with("wsify: --broker-dsn: invalid value \"\": expected redis://")
    );
    assert!(given("broker-driver", "Memory").is_ok());
    refused("broker-driver", &["", "kafka", "redis "]);
    // Only the driver that uses it checks it.
    assert_eq!(
        given("broker-dsn", "nonsense").unwrap().broker,
        BrokerChoice::Memory
    );
}

#[test]
fn reuse_port() {
    let on = |arguments: &[&str], env: &[(&str, &str)]| read(arguments, env).unwrap().reuse_port;
    assert!(!on(&[], &[]));
    for spelled in [
        &["--reuse-port"][..],
        &["-reuse-port", "--max-channels=1"],
        &["--reuse-port", "-max-channels", "1"],
        &["--reuse-port=true"],
        &["--reuse-port", "TRUE"],
        &["--reuse-port=false", "--reuse-port"],
    ] {
        assert!(on(spelled, &[]), "{spelled:?}");
    }
    assert!(!on(&["--reuse-port", "false"], &[]));
    let variable = [("WSIFY_REUSE_PORT", "true")];
    assert!(on(&[], &variable));
    assert!(!on(&["--reuse-port=false"], &variable));
    refused("reuse-port", &["", "yes", "1", "3000"]);
}

#[test]
fn durations_are_read() {
    let time = |text: &str| given("handshake-timeout", text).unwrap().handshake_timeout;
    assert_eq!(time("500ms"), Duration::from_millis(500));
    assert_eq!(time("2m"), Duration::from_secs(120));
    assert_eq!(time("1m 30s"), Duration::from_secs(90));
    assert_eq!(time("1.5s"), Duration::from_millis(1500));
    assert_eq!(time("24h"), Duration::from_secs(86_400));
    let nonsense = [
        "",
        "5",
        "s",
        "-5s",
        "+5s",
        "5 parsecs",
        "1ns",
        "25h",
        "1y",
        "18446744073709551616s",
        "18446744073709551615s1000000000ns",
    ];
    for flag in ["authorizer-timeout", "handshake-timeout"] {
        refused(flag, &nonsense);
        refused(flag, &["0", "0s"]);
    }
    for flag in ["ping-interval", "drain-timeout"] {
        refused(flag, &nonsense);
    }
    for zero in ["0", "0s", "0ms"] {
        assert_eq!(given("ping-interval", zero).unwrap().ping_interval, None);
        let drain = given("drain-timeout", zero).unwrap().drain_timeout;
        assert_eq!(drain, Duration::ZERO);
    }
    assert!(refusal("drain-timeout", "x").contains("expected 0, or"));
}

#[test]
fn sizes_and_counts() {
    for (text, bytes) in [
        ("1", 1),
        ("65536", 65_536),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("1MiB", 1 << 20),
        ("1.5MiB", 3 << 19),
        ("1MB", 1_000_000),
        ("1GiB", 1 << 30),
    ] {
        let config = given("max-message-size", text).unwrap();
        assert_eq!(config.max_message_size, bytes, "{text}");
        let config = given("max-queue-size", text).unwrap();
        assert_eq!(config.max_queue_size, bytes, "{text}");
    }
    let nonsense = [
        "",
        "0",
        "0KiB",
        "-1",
        "+1",
        "1.5",
        "KiB",
        "1XB",
        "1073741825",
        "2GiB",
        "16EiB",
        "99999999999EiB",
        "99999999999999999999",
        "inf",
        "NaN",
        "0x10",
        "1..5KiB",
    ];
    refused("max-message-size", &nonsense);
    refused("max-queue-size", &nonsense);
    let total = given("max-total-queue-size", "64GiB").unwrap();
    assert_eq!(total.max_total_queue_size, 64 << 30);
    refused("max-total-queue-size", &["", "0", "-1", "2TiB", "x"]);

    let nonsense = ["", "-1", "+1", "1.0", "ten", " 1", "99999999999999999999"];
    for flag in [
        "authorizer-workers",
        "authorizer-queue",
        "authorizer-batch",
        "max-channels",
    ] {
        refused(flag, &nonsense);
        refused(flag, &["0"]);
    }
    refused("max-connections", &nonsense);
    refused("max-connections-per-ip", &nonsense);
    refused("max-message-rate", &nonsense);
    refused("max-message-rate", &["1000001"]);
    refused("compression", &["", "true", "yes", "on off", "deflate"]);
    refused("compression-min-size", &["0", "-1", "some", "2GiB"]);
    refused("authorizer-workers", &["1025"]);
    refused("authorizer-batch", &["1001"]);
    let config = read(&["--max-connections=1", "--authorizer-workers=1024"], &[]).unwrap();
    assert_eq!(config.max_connections, Some(1));
    assert_eq!(config.authorizer_workers, Workers::Exactly(1024));
    assert_eq!(config.authorizer_workers.within(80, 1), 1024);
    for (fds, batch, workers) in [
        (1 << 20, 1, 256),
        (1024, 1, 128),
        (4, 1, 1),
        // Batches form where few calls are in flight.
        (1 << 20, 2, 8),
        (1 << 20, 1000, 8),
        (40, 64, 5),
    ] {
        let default = Workers::AsFdsAllow(256);
        assert_eq!(default.within(fds, batch), workers, "{fds} {batch}");
    }
    assert_eq!(Workers::Exactly(32).within(80, 64), 32);
}

#[test]
fn allowed_origins() {
    let list = |text: &str| given("allowed-origins", text).unwrap().allowed_origins;
    assert_eq!(list("*"), Origins::Any);
    let listed = list("https://App.Example.com, http://localhost:8080,null,file://,");
    for origin in [
        "https://app.example.com",
        "http://localhost:8080",
        "null",
        "file://",
    ] {
        assert!(listed.allows(origin), "{origin}");
    }
    assert!(!listed.allows("https://b.example.com"));
    let repeated = ["--allowed-origins=http://a", "--allowed-origins=http://b"];
    let config = read(&repeated, &[]).unwrap();
    assert_eq!(config.allowed_origins, list("http://a,http://b"));
    // `Origins` decides which items are wrong.
    refused("allowed-origins", &["", ",", "app.example.com", "https://"]);
}

#[test]
fn an_error_names_the_wrong_item_of_a_list() {
    for (flag, value, item) in [
        ("allowed-origins", "https://a, https://b/,c", "https://b/"),
        ("allowed-origins", "*,https://", "https://"),
        ("listen-addr", ":1, localhost ,:2", "localhost"),
        ("trusted-proxies", "10.0.0.1,10.0.0.0/33", "10.0.0.0/33"),
    ] {
        let line = refusal(flag, value);
        let named = format!("--{flag}: invalid value {value:?} because of {item:?}: expected ");
        assert!(line.contains(&named), "{line}");
    }
    let repeated = ["--listen-addr=:1", "--listen-addr=:x"];
    let stop = read(&repeated, &[]).unwrap_err();
    assert!(stop.text.contains(r#"":1,:x" because of ":x""#), "{stop:?}");
    // The only item is not named twice.
    assert!(refusal("listen-addr", ":x").contains("invalid value \":x\": expected "));
}

#[test]
fn trusted_proxies() {
    let list = |text: &str| given("trusted-proxies", text).unwrap().trusted_proxies;
    let peer = |text: &str| Some(text.parse().unwrap());
    let some = list("10.0.0.0/8, ::1");
    assert!(some.trusts(peer("10.1.2.3")) && some.trusts(peer("::1")));
    assert!(some.trusts(None) && !some.trusts(peer("127.0.0.1")));
    assert!(list("unix").trusts(None) && !list("").trusts(None));
    let repeated = ["--trusted-proxies=10.0.0.1", "--trusted-proxies=10.0.0.2"];
    let config = read(&repeated, &[]).unwrap();
    assert!(config.trusted_proxies.trusts(peer("10.0.0.1")));
    refused(
        "trusted-proxies",
        &["10.0.0.0/33", "localhost", "*", "10.0.0.1,x", "10.0.0.1:80"],
    );
}

#[test]
fn a_switch_may_stand_alone() {
    for (arguments, on) in [
        (&["--proxy-protocol"][..], true),
        (&["-proxy-protocol"], true),
        (&["--proxy-protocol", "--max-channels", "3"], true),
        (&["--proxy-protocol", "true"], true),
        (&["--proxy-protocol=TRUE"], true),
        (&["--proxy-protocol", "false"], false),
        (&["--proxy-protocol=false"], false),
        (&["--proxy-protocol", "--proxy-protocol=false"], false),
    ] {
        let config = read(arguments, &[]).unwrap();
        assert_eq!(config.proxy_protocol, on, "{arguments:?}");
    }
    assert!(
        read(&[], &[("WSIFY_PROXY_PROTOCOL", "true")])
            .unwrap()
            .proxy_protocol
    );
    refused("proxy-protocol", &["", "yes", "1", "v2"]);
}

#[test]
fn log_levels() {
    for level in Level::ALL {
        assert_eq!(given("log-level", level.name()).unwrap().log_level, level);
    }
    assert_eq!(given("log-level", "WARN").unwrap().log_level, Level::Warn);
    refused("log-level", &["", "trace", "warning"]);
}

#[test]
fn how_and_what_is_logged() {
    assert_eq!(read(&[], &[]).unwrap().log_format, None);
    for format in Format::ALL {
        let config = given("log-format", format.name()).unwrap();
        assert_eq!(config.log_format, Some(format));
    }
    refused("log-format", &["xml", "auto"]);
    for (text, access_log) in [
        ("off", AccessLog::Off),
        ("errors", AccessLog::Errors),
        ("ALL", AccessLog::All),
    ] {
        assert_eq!(given("access-log", text).unwrap().access_log, access_log);
    }
    assert_eq!(read(&[], &[]).unwrap().access_log, AccessLog::Errors);
    refused("access-log", &["", "none", "error"]);
    for (env, colours) in [
        (&[] as &[_], true),
        (&[("NO_COLOR", "")], true),
        (&[("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "xterm")], true),
    ] {
        assert_eq!(read(&[], env).unwrap().colours, colours, "{env:?}");
    }
}

#[test]
fn the_playground_is_a_switch() {
    let on = |arguments: &[&str]| read(arguments, &[]).unwrap().playground;
    assert!(!on(&[]));
    assert!(on(&["--playground"]));
    assert!(on(&["-playground", "--max-channels", "1"]));
    assert!(on(&["--playground", "TRUE"]));
    assert!(!on(&["--playground=false"]));
    let env = [("WSIFY_PLAYGROUND", "true")];
    assert!(read(&[], &env).unwrap().playground);
    refused("playground", &["", "yes", "1"]);
}

#[test]
fn authorizer_keys() {
    let keys = |text: &str| {
        let keys = given("authorizer-key", text).unwrap().authorizer_key;
        let exposed = keys.iter().map(|key| key.expose().to_owned());
        exposed.collect::<Vec<_>>()
    };
    assert!(keys("").is_empty());
    assert_eq!(keys("one"), ["one"]);
    assert_eq!(keys("old, new "), ["old", "new"]);
    assert_eq!(keys("a b=\u{e9}"), ["a b=\u{e9}"]);
    let repeated = ["--authorizer-key=a", "--authorizer-key=b"];
    let config = read(&repeated, &[("WSIFY_AUTHORIZER_KEY", "c")]).unwrap();
    assert_eq!(config.authorizer_key, [Secret::new("b")]);
    for (text, named) in [
        (",", "(key 1 is empty)"),
        (",hunter2", "(key 1 is empty)"),
        ("hunter2,", "(key 2 is empty)"),
        ("hunter2, ,", "(key 2 is empty)"),
        ("hunter2,,hunter3", "(key 2 is empty)"),
        (" ", "(key 1 is empty)"),
        ("hunter2\n", "(key 1 has a control character)"),
        ("a,hunter2\u{7f}", "(key 2 has a control character)"),
        ("hunter2,hunter3,hunter4", "(there are 3 keys)"),
    ] {
        let line = refusal("authorizer-key", text);
        assert!(line.contains("invalid value \"***\": "), "{line}");
        assert!(line.ends_with(named) && !line.contains("hunter"), "{line}");
    }
}

#[test]
fn variables_of_a_service_manager_are_read() {
    let us = std::process::id().to_string();
    let found = |env: &[(&str, &str)]| {
        let config = read(&[], env).unwrap();
        (config.listen_fds, config.notify_socket, config.watchdog)
    };
    assert_eq!(found(&[]), (0, None, None));
    let all = [
        ("LISTEN_PID", us.as_str()),
        ("LISTEN_FDS", "2"),
        ("NOTIFY_SOCKET", "@x"),
        ("WATCHDOG_PID", us.as_str()),
        ("WATCHDOG_USEC", "30000000"),
    ];
    let time = Some(Duration::from_secs(30));
    assert_eq!(found(&all), (2, Some("@x".into()), time));
    assert_eq!(found(&[("WATCHDOG_USEC", "30000000")]).2, time);
    for env in [
        &[("LISTEN_FDS", "2")][..],
        &[("LISTEN_FDS", "2"), ("LISTEN_PID", "1")],
        &[("LISTEN_FDS", "-2"), ("LISTEN_PID", &us)],
        &[("NOTIFY_SOCKET", "")],
        &[("WATCHDOG_USEC", "0")],
        &[("WATCHDOG_USEC", "soon")],
        &[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1")],
    ] {
        assert_eq!(found(env), (0, None, None), "{env:?}");
    }
    let many = [("LISTEN_FDS", "4000000000"), ("LISTEN_PID", us.as_str())];
    assert_eq!(found(&many).0, 64);
}

#[test]
fn no_secret_is_shown() {
    let config = read(
        &[
            "--broadcasting-key=hunter2",
            "--authorizer-key=hunter2,hunter2",
            "--authorizer-url=https://user:hunter2@host/path?token=hunter2",
            "--broker-driver=redis",
            "--broker-dsn=redis://:hunter2@host:1/2",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(
        config.broadcasting_key.as_ref().unwrap().expose(),
        "hunter2"
    );
    let shown = format!(
        "{config:?} {:?} {}",
        config.authorizer(1),
        config.authorizer_url.as_ref().unwrap()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("https://host/path?token=***"), "{shown}");
    let line = refusal("broadcasting-key", "hunter2\n");
    assert!(!line.contains("hunter2"), "{line}");
    for (flag, url, shown) in [
        ("authorizer-url", "ftp://u:hunter2@h/p", "ftp://***@h/p"),
        ("authorizer-url", "ftp://h/p?hunter2", "ftp://h/p***"),
        ("authorizer-url", "ftp://h/p?x=a@hunter2", "ftp://***"),
        ("authorizer-url", "u:hunter2@h", "***@h"),
        ("broker-dsn", "redis://:hun?ter2@h/x", "redis://***"),
        ("broker-dsn", "redis://:hunter2", "redis://:***"),
        ("broker-dsn", "u:hunter2@h://x", "***@h://x"),
        ("broker-dsn", "redis://h:99999", "redis://h:99999"),
        (
            "broker-dsn",
            "redis-sentinel://s1,s2?sentinel_password=hunter2",
            "redis-sentinel://s1,s2***",
        ),
        (
            "broker-dsn",
            "redis-sentinel://s1/?sentinel_password=hunter2",
            "redis-sentinel://s1/***",
        ),
        (
            "broker-dsn",
            "redis-cluster://:hunter2@a:1,b:x",
            "redis-cluster://***@a:1,b:x",
        ),
        (
            "broker-dsn",
            "redis-cluster://a:1,u:hunter2,b:1",
            "redis-cluster://a:1,u:***",
        ),
    ] {
        let driver = match flag {
            "broker-dsn" => "--broker-driver=redis",
            _ => "--broker-driver=memory",
        };
        let flag = format!("--{flag}={url}");
        let line = read(&[driver, &flag], &[]).expect_err(url).text;
        assert!(line.contains(&format!("{shown:?}")), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    let stop = read(&["redis://:hunter2@host"], &[]).unwrap_err();
    assert!(!stop.text.contains("hunter2"), "{stop:?}");
}

#[test]
fn events_flags_are_read() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.events.url, None);
    assert_eq!(
        config.events.kinds,
        EventKinds::parse("disconnected").unwrap()
    );
    assert_eq!(config.events.queue, 100_000);
    assert!(config.events_webhook().is_none());
    let arguments = [
        "--events-url=https://host/x",
        "--events=Connected, vacated",
        "--events=occupied",
        "--events-queue=1",
        "--authorizer-timeout=3s",
        "--authorizer-key=k",
    ];
    let config = read(&arguments, &[]).unwrap();
    let kinds = EventKinds::parse("connected,vacated,occupied").unwrap();
    assert_eq!((config.events.kinds, config.events.queue), (kinds, 1));
    let webhook = config.events_webhook().unwrap();
    assert_eq!(webhook.url.to_string(), "https://host/x");
    assert_eq!(webhook.timeout, Duration::from_secs(3));
    assert_eq!((webhook.keys.len(), webhook.probes), (1, false));
    for (flag, value, named) in [
        ("events", "connected,join", "because of \"join\""),
        (
            "events",
            ",",
            "connected, disconnected, occupied and vacated",
        ),
        ("events-queue", "0", "from 1 to"),
        ("events-url", "host", "no receiver"),
    ] {
        let line = refusal(flag, value);
        assert!(line.contains(named), "{line}");
    }
}
