"""Several redis-servers that belong together: a master with replicas under sentinels, and a cluster. All on loopback, with their
files in a directory of the test's, ended by their process ids."""

import socket
import subprocess
import threading

from .net import accepted, until
from .redis import Redis, Refused, Wire
from .server import free_port
from .tools import need

SLOTS = 16384


class Process(Redis):
    """A redis-server with a configuration file of its own, which it rewrites."""

    def __init__(self, directory, name, lines, *, port=None, auth=None, tls=None):
        self.program = need("redis-server")
        self.port = port or free_port()
        self.tls_port = None
        self.auth = auth
        self.name = name
        self.log = directory / f"{name}.log"
        self.file = directory / f"{name}.conf"
        self.sentinel = any(line.startswith("sentinel ") for line in lines)
        (directory / name).mkdir()
        head = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory / name}", f"logfile {self.log}"]
        if tls:
            self.tls_port = free_port()
            head += [f"tls-port {self.tls_port}", "tls-replication yes", *tls]
        if not self.sentinel:
            head += ['save ""', "appendonly no", "repl-diskless-sync-delay 0", "repl-timeout 5"]
        self.file.write_text("\n".join([*head, *lines]) + "\n")
        self.process = None
        self.start()

    def start(self):
        mode = ["--sentinel"] if self.sentinel else []
        self.process = subprocess.Popen([self.program, str(self.file), *mode], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(self.answers, lambda: f"{self.name} answers; {self.log.read_text()[-2000:] if self.log.exists() else ''}")
        except BaseException:
            self.kill()
            raise

    def is_running(self):
        return self.process.poll() is None

    def kill(self):
        if self.process and self.is_running():
            self.process.kill()
            self.process.wait()

    def role(self):
        """`master` or `slave`; nothing while it does not say."""
        try:
            return self.ask("ROLE")[0].decode()
        except (OSError, ConnectionError, Refused):
            return None


class Group:
    """Processes that end together."""

    def __init__(self, directory):
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = []

    def add(self, name, lines, **more):
        self.processes.append(Process(self.directory, name, lines, **more))
        return self.processes[-1]

    def kill(self):
        for process in self.processes:
            if process.is_running():
                process.go_on()
            process.kill()

    def logs(self):
        return "\n".join(f"-- {process.name}\n{process.log.read_text()[-1500:]}" for process in self.processes)


class Watched(Group):
    """A master and two replicas, under three sentinels that call it mymaster."""

    def __init__(self, directory, replicas=2, sentinels=3, lines=(), sentinel_lines=(), auth=None, sentinel_auth=None, tls=None, down_after=500):
        super().__init__(directory)
        try:
            first = self.add("one", lines, auth=auth, tls=tls)
            self.nodes = [first]
            self.tls = bool(tls)
            port = first.tls_port if tls else first.port
            for number in range(replicas):
                replica = self.add(f"replica{number}", [f"replicaof 127.0.0.1 {port}", *lines], auth=auth, tls=tls)
                self.nodes.append(replica)
            watch = [
                f"sentinel monitor mymaster 127.0.0.1 {port} 2",
                f"sentinel down-after-milliseconds mymaster {down_after}",
                "sentinel failover-timeout mymaster 1500",
                *sentinel_lines,
            ]
            until(lambda: all(self.follows(node, first) for node in self.nodes[1:]), "the replicas follow")
            self.sentinels = [self.add(f"sentinel{n}", watch, auth=sentinel_auth, tls=tls) for n in range(sentinels)]
            until(self.is_settled, lambda: f"the sentinels know each other and the replicas; {self.logs()}")
        except BaseException:
            self.kill()
            raise

    def follows(self, node, master):
        role = node.ask("ROLE")
        return role[0] == b"slave" and role[2] in (master.port, master.tls_port) and role[3] == b"connected"

    def is_settled(self):
        for sentinel in self.sentinels:
            fields = sentinel.ask("SENTINEL", "MASTER", "mymaster")
            fields = dict(zip(fields[::2], fields[1::2]))
            if int(fields[b"num-slaves"]) < len(self.nodes) - 1 or int(fields[b"num-other-sentinels"]) < len(self.sentinels) - 1:
                return False
        return True

    @property
    def dsn(self):
        return self.dsn_of(self.sentinels)

    def dsn_of(self, sentinels, user="", query=""):
        scheme = "rediss-sentinel" if self.tls else "redis-sentinel"
        hosts = ",".join(f"127.0.0.1:{s.tls_port if self.tls else s.port}" for s in sentinels)
        return f"{scheme}://{user}{hosts}/mymaster{query}"

    @property
    def master(self):
        """The node that a sentinel names, once it is one."""
        named = []

        def found():
            for sentinel in self.sentinels:
                if not sentinel.is_running():
                    continue
                try:
                    port = int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])
                except (OSError, ConnectionError):
                    continue
                named[:] = [node for node in self.nodes if port in (node.port, node.tls_port)]
                return named and named[0].is_running() and named[0].role() == "master"
            return False

        until(found, lambda: f"there is a master; {self.logs()}")
        return named[0]

    def failed_over(self, former):
        """Waits for another master than this one."""
        until(lambda: self.names_other(former), lambda: f"there is another master; {self.logs()}", 15)
        return self.master

    def names_other(self, former):
        for sentinel in self.sentinels:
            try:
                if int(sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1]) in (former.port, former.tls_port):
                    return False
            except (OSError, ConnectionError):
                continue
        return True


class Cluster(Group):
    """Masters with the same number of slots each, and a replica for each."""

    def __init__(self, directory, masters=3, replicas=1, lines=(), auth=None, tls=None, node_timeout=1000):
        super().__init__(directory)
        self.tls = bool(tls)
        settings = self.settings = [
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-node-timeout {node_timeout}",
            "cluster-replica-validity-factor 0",
            *(["tls-cluster yes"] if tls else []),
            *lines,
        ]
        try:
            started = []
            threads = []
            for number in range(masters * (1 + replicas)):
                more = [f"cluster-port {free_port()}", *settings]
                thread = threading.Thread(target=lambda n=number, m=more: started.append((n, self.add(f"node{n}", m, auth=auth, tls=tls))))
                threads.append(thread)
                thread.start()
            for thread in threads:
                thread.join()
            self.nodes = [node for _, node in sorted(started, key=lambda it: it[0])]
            assert len(self.nodes) == masters * (1 + replicas), self.logs()
            self.masters = self.nodes[:masters]
            self.assemble(masters)
        except BaseException:
            self.kill()
            raise

    def assemble(self, masters):
        first = self.nodes[0]
        bus = {node: int(node.ask("CONFIG", "GET", "cluster-port")[1]) for node in self.nodes}
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < masters:
                node.ask("CLUSTER", "ADDSLOTSRANGE", number * SLOTS // masters, (number + 1) * SLOTS // masters - 1)
            if node is not first:
                node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, bus[first])
        until(lambda: all(len(self.known(node)) == len(self.nodes) for node in self.nodes), lambda: f"all have met; {self.logs()}")
        for number, node in enumerate(self.nodes[masters:]):
            node.ask("CLUSTER", "REPLICATE", self.id(self.nodes[number % masters]))
        until(self.is_well, lambda: f"the cluster is well; {self.logs()}", 15)

    def id(self, node):
        return node.ask("CLUSTER", "MYID").decode()

    def known(self, node):
        """The nodes that a node knows: their fields."""
        lines = node.ask("CLUSTER", "NODES").decode().splitlines()
        return [fields for fields in (line.split(" ") for line in lines) if "handshake" not in fields[2]]

    def running(self):
        return [node for node in self.nodes if node.is_running()]

    def is_well(self):
        """All running nodes agree, and every replica follows its master."""
        for node in self.running():
            info = node.ask("CLUSTER", "INFO").decode()
            if "cluster_state:ok" not in info or "cluster_slots_ok:16384" not in info:
                return False
            role = node.ask("ROLE")
            if role[0] == b"slave" and role[3] != b"connected":
                return False
        return len({self.owners(node) for node in self.running()}) == 1

    def owners(self, node):
        """Which master has which slots, as a node sees it."""
        stretches = node.ask("CLUSTER", "SLOTS")
        return tuple(sorted((first, last, master[1]) for first, last, master, *_ in stretches))

    @property
    def dsn(self):
        return self.dsn_of(self.nodes[:2])

    def dsn_of(self, nodes, user=""):
        scheme = "rediss-cluster" if self.tls else "redis-cluster"
        return f"{scheme}://{user}" + ",".join(f"127.0.0.1:{node.tls_port if self.tls else node.port}" for node in nodes)

    def slot(self, channel):
        return self.running()[0].ask("CLUSTER", "KEYSLOT", channel)

    def owner(self, channel):
        """The master that has a channel."""
        slot = self.slot(channel)
        for first, last, port in self.owners(self.running()[0]):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port or node.tls_port == port)
        raise LookupError(channel)

    def replica_of(self, master):
        for node in self.running():
            role = node.ask("ROLE")
            if role[0] == b"slave" and role[2] in (master.port, master.tls_port):
                return node
        raise LookupError(master.port)

    def join_empty_node(self):
        """One more master, without slots."""
        node = self.add(f"node{len(self.nodes)}", [f"cluster-port {free_port()}", *self.settings])
        first = self.nodes[0]
        node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, int(first.ask("CONFIG", "GET", "cluster-port")[1]))
        self.nodes.append(node)
        until(lambda: all(len(self.known(it)) == len(self.nodes) for it in self.running()), "all have met it")
        until(self.is_well, "the cluster is well")
        return node

    def move(self, slot, target):
        """Moves a slot as redis-cli does: to a node without keys of it."""
        source = next(node for node in self.running() if self.has(node, slot))
        if source is target:
            return
        mine, its = self.id(source), self.id(target)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", mine)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", its)
        for node in [target, source, *(n for n in self.running() if n not in (source, target) and n.role() == "master")]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", its)

    def has(self, node, slot):
        return node.role() == "master" and any(first <= slot <= last and port in (node.port, node.tls_port) for first, last, port in self.owners(node))

    def subscribers(self, channel):
        """Of the master that has it."""
        return self.owner(channel).ask("PUBSUB", "SHARDNUMSUB", channel)[1]

    def publish(self, channel, content):
        return self.owner(channel).ask("SPUBLISH", channel, content)

    def cli(self, *arguments):
        """What redis-cli prints; the test's time is its limit."""
        program = need("redis-cli", "redis-tools")
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class StaleSentinel:
    """Something that answers as a sentinel, and always names the same master."""

    def __init__(self, named):
        self.named = named
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for sock in accepted(self.listener):
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        wire = Wire.of(sock)
        try:
            while True:
                verb, *rest = wire.read()
                if verb == b"SENTINEL":
                    port = str(self.named).encode()
                    sock.sendall(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))
                elif verb in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                    kind, channel = verb.lower(), rest[0]
                    sock.sendall(b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(channel), channel))
                else:
                    sock.sendall(b"+OK\r\n")
        except (OSError, ConnectionError):
            pass

    def stop(self):
        self.listener.close()
