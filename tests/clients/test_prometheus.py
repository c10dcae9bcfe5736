"""What Prometheus makes of `/metrics`: its own parser, and `promtool` where there is one."""

import os
import shutil
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.net import until
from harness.ws import command


class Scrape:
    def __init__(self, server):
        self.text = server.call("GET", "/metrics").body.decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}

    def __call__(self, name, **labels):
        samples = [s for f in self.families.values() for s in f.samples if s.name == name and s.labels == labels]
        assert len(samples) == 1, (name, labels, self.text)
        return samples[0].value


@pytest.fixture
def busy(asked, authorizer):
    """A server on which each kind of event has happened. Ann and ben are in a room."""
    ann, ben = (asked.ws().join("room") for _ in "ab")
    for n in range(10):
        asked.publish("room", n)
        for member in (ann, ben):
            member.hears(str(n))
    authorizer.on(403, "join")
    ann.say(command("join", "secret", id=1))
    assert ann.answer(1)["error"]["code"] == "not_authorized"
    ann.say("no json")
    ann.answer()
    assert asked.call("POST", "/broadcast", body=b"{}").status == 415
    return asked, ann, ben


def test_every_event_is_counted_once(busy):
    server, ann, ben = busy
    scrape = Scrape(server)
    assert scrape("wsify_connections", kind="websocket") == 2
    assert scrape("wsify_handshakes_total", outcome="accepted") == 2
    assert scrape("wsify_commands_total", command="join", outcome="ok") == 2
    assert scrape("wsify_commands_total", command="join", outcome="not_authorized") == 1
    assert scrape("wsify_fanouts_total") == 10
    assert scrape("wsify_deliveries_total") == 20
    assert 1 <= scrape("wsify_fanout_duration_seconds_count") <= 10
    assert scrape("wsify_channels") == 1 and scrape("wsify_memberships") == 2
    assert scrape("wsify_authorizer_verdicts_total", verdict="allow") == 4
    assert scrape("wsify_authorizer_verdicts_total", verdict="deny") == 1
    assert scrape("wsify_authorizer_duration_seconds_count") == 5
    assert scrape("wsify_authorizer_calls_in_flight") == scrape("wsify_authorizer_questions_waiting") == 0
    assert scrape("wsify_http_responses_total", endpoint="broadcast", status="201") == 10
    assert scrape("wsify_http_responses_total", endpoint="broadcast", status="415") == 1
    assert scrape("wsify_received_bytes_total") > 1000 and scrape("wsify_sent_bytes_total") > 1000
    assert scrape("wsify_queued_bytes") == scrape("wsify_laggards") == 0
    assert scrape("wsify_broker_up") == 1 and scrape("wsify_broker_reconnections_total") == 0
    assert scrape("wsify_log_lines_dropped_total") == 0
    assert scrape("wsify_connections_ended_total", reason="closed") == 0

    ann.leaves()
    until(lambda: Scrape(server)("wsify_connections_ended_total", reason="closed") == 1, "an end is counted")


def test_the_loop_and_the_process_are_measured(busy):
    server, _, _ = busy
    before = Scrape(server)
    for _ in range(10):
        assert server.call("GET", "/health").status == 200
    after = Scrape(server)
    assert after("wsify_loop_turn_duration_seconds_count") > before("wsify_loop_turn_duration_seconds_count") >= 10
    longest = after("wsify_loop_turn_longest_seconds")
    assert 0 < longest <= after("wsify_loop_turn_duration_seconds_sum")
    assert after("process_cpu_seconds_total") <= server.cpu() <= after("process_cpu_seconds_total") + 5
    resident, _ = server.memory()
    assert 0.5 < after("process_resident_memory_bytes") / resident < 2
    assert after("process_virtual_memory_bytes") > after("process_resident_memory_bytes")
    assert abs(after("process_open_fds") - len(os.listdir(f"/proc/{server.pid}/fd"))) <= 20
    assert after("process_max_fds") >= after("process_open_fds")
    assert after("process_threads") >= 2
    assert time.time() - 3600 < after("process_start_time_seconds") <= time.time() + 1


def test_a_member_that_does_not_read_is_a_laggard_and_its_queue_is_counted(serve):
    server = serve("--max-queue-size", "64MiB")
    slow = server.ws(rcvbuf=4096)
    slow.join("room")
    content = f'"{"x" * 1_000_000}"'
    for _ in range(12):
        server.publish("room", content)
    until(lambda: Scrape(server)("wsify_laggards") == 1, "one member lags behind")
    assert 1_000_000 < Scrape(server)("wsify_queued_bytes") < 12_100_000
    for _ in range(12):
        assert slow.hear() == content
    until(lambda: Scrape(server)("wsify_laggards") == Scrape(server)("wsify_queued_bytes") == 0, "it has caught up")


def test_promtool_finds_nothing_to_say(busy):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    text = Scrape(busy[0]).text
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
