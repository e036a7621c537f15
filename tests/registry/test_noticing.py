"""Every way in which a file changes is noticed, by the system's notices or by polling alone."""

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import watchfiles

from aioresilience import Registry
from aioresilience.registry import watch
from aioresilience.registry.fingerprint import folders
from aioresilience.registry.mounts import mounted_alone
from aioresilience.testing import EventLog

PATIENCE = 15.0
"""Seconds: a machine under load is slow, and what is never noticed is never noticed."""


def text(places):
    return f"version: 1\npolicies:\n  payments: {{bulkhead: {places}}}\n"


def write(path, places):
    path.write_text(text(places))


def rename_over(path, places):
    temporary = path.with_name(".new")
    temporary.write_text(text(places))
    os.replace(temporary, path)


async def eventually(check, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    write(path, 1)
    return path


@pytest.fixture(params=["system's notices", "polling alone"])
def noticing(request, monkeypatch):
    """Run a test with the accelerator, and without it."""
    if request.param == "polling alone":
        monkeypatch.setattr(watchfiles, "watch", _refused)
        monkeypatch.setattr(watch, "POLL", 0.1)


def _refused(*paths, **options):
    raise OSError(28, "No space left on device (os error 28) about [inotify]")


class Watched:
    """A registry that watches, and the size of the bulkhead in effect."""

    def __init__(self, path):
        self.registry = Registry.from_file(path, environ={})

    @property
    def places(self):
        return self.registry.get("payments").bulkhead.max_concurrent

    async def shows(self, places):
        await eventually(lambda: self.places == places)

    async def __aenter__(self):
        self.registry.start_watching()
        await eventually(lambda: self.registry.status()["reloads"]["unchanged"])
        return self

    async def __aexit__(self, *reason):
        await asyncio.to_thread(self.registry.stop_watching)


async def test_atomic_rename(noticing, file):
    async with Watched(file) as watched:
        for places in (2, 3, 4):
            rename_over(file, places)
            await watched.shows(places)


async def test_in_place_write(noticing, file):
    async with Watched(file) as watched:
        for places in (2, 3):
            write(file, places)
            await watched.shows(places)


async def test_kubernetes_data_swap(noticing, tmp_path):
    """As the kubelet does it: a new folder, a new link, renamed over `..data`, the old folder removed."""
    path = tmp_path / "resilience.yaml"

    def publish(number):
        folder = tmp_path / f"..2026_{number}"
        folder.mkdir()
        write(folder / path.name, number)
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        shutil.rmtree(tmp_path / f"..2026_{number - 1}", ignore_errors=True)

    publish(1)
    path.symlink_to("..data/resilience.yaml")
    async with Watched(path) as watched:
        for number in (2, 3, 4):
            publish(number)
            await watched.shows(number)


async def test_ancestor_symlink_swap(noticing, tmp_path):
    """`current -> releases/2`, far above the file."""
    for release in (1, 2, 3):
        folder = tmp_path / "releases" / str(release) / "etc"
        folder.mkdir(parents=True)
        write(folder / "resilience.yaml", release)
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    async with Watched(current / "etc" / "resilience.yaml") as watched:
        for release in (2, 3):
            (tmp_path / "next").symlink_to(f"releases/{release}")
            os.replace(tmp_path / "next", current)
            await watched.shows(release)


async def test_deleted_and_recreated_directory(noticing, tmp_path):
    folder = tmp_path / "etc" / "service"
    folder.mkdir(parents=True)
    file = folder / "resilience.yaml"
    write(file, 1)
    async with Watched(file) as watched:
        for places in (2, 3):
            shutil.rmtree(tmp_path / "etc")
            await eventually(lambda: not watched.registry.status()["last_reload_successful"])
            folder.mkdir(parents=True)
            write(file, places)
            await watched.shows(places)
        assert watched.registry.status()["last_reload_successful"]


async def test_same_mtime_and_size(noticing, file):
    async with Watched(file) as watched:
        before = file.stat()
        rename_over(file, 2)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        await watched.shows(2)


async def test_older_mtime(noticing, file):
    async with Watched(file) as watched:
        write(file, 2)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        await watched.shows(2)


async def test_chmod_alone_changes_nothing(noticing, file):
    async with Watched(file) as watched:
        before = watched.registry.status()["reloads"]["unchanged"]
        file.chmod(0o640)
        await eventually(lambda: watched.registry.status()["reloads"]["unchanged"] > before)
        assert watched.registry.generation == 1
        write(file, 2)
        await watched.shows(2)


def vim(backupcopy, steps):
    """Save with vim where there is one, else do what strace shows of it."""
    edit = f"vim -es -u NONE -c 'set backup backupcopy={backupcopy}' -c '%s/bulkhead: 1/bulkhead: 2/' -c wq FILE"
    return f"if command -v vim; then {edit}; else {steps}; fi"


DANCES = {
    "sed -i": "sed -i s/'bulkhead: 1'/'bulkhead: 2'/ FILE",
    "cp": "cp new.yaml FILE",
    "rm and cp": "rm FILE && cp new.yaml FILE",
    "mv": "mv new.yaml FILE",
    "ln -sf": "ln -sf new.yaml FILE",
    "cat >": "cat new.yaml > FILE",
    "vim by rename": vim("no", "mv FILE FILE~ && cat new.yaml > FILE && rm FILE~"),
    "vim in place": vim("yes", "cp FILE FILE~ && cat new.yaml > FILE && sync FILE && rm FILE~"),
    "git checkout": "rm FILE && cp new.yaml .tmp && mv .tmp FILE",
}


@pytest.mark.parametrize("dance", DANCES)
async def test_editors_save_dances(dance, file):
    write(file.with_name("new.yaml"), 2)
    async with Watched(file) as watched:
        command = DANCES[dance].replace("FILE", file.name)
        await asyncio.to_thread(subprocess.run, command, shell=True, check=True, cwd=file.parent)
        await watched.shows(2)
        assert watched.registry.generation == 2


async def test_an_include_that_never_existed_is_waited_for(noticing, file):
    async with Watched(file) as watched:
        include = file.parent / "common" / "sizes.yaml"
        file.write_text("version: 1\ninclude: [common/sizes.yaml]\npolicies:\n  payments: {}\n")
        await eventually(lambda: not watched.registry.status()["last_reload_successful"])
        include.parent.mkdir()
        include.write_text("version: 1\npolicies:\n  payments: {bulkhead: 5}\n")
        await watched.shows(5)


async def test_a_file_that_was_not_there_at_the_start_is_waited_for(noticing, tmp_path):
    fallback = tmp_path / "fallback.yaml"
    write(fallback, 1)
    path = tmp_path / "mounted" / "later" / "resilience.yaml"
    registry = Registry.from_file(path, environ={"AIORESILIENCE_FALLBACK_CONFIG": str(fallback)})
    async with registry.watching():
        assert registry.status()["on_fallback"]
        path.parent.mkdir(parents=True)
        write(path, 7)
        await eventually(lambda: registry.generation == 2)
    assert not registry.status()["on_fallback"]


async def test_a_storm_of_writes_is_coalesced(noticing, file):
    async with Watched(file) as watched:
        begun = time.monotonic()
        for places in range(2, 202):
            write(file, places)
            await asyncio.sleep(0.001)
        await watched.shows(201)
        quiets = (time.monotonic() - begun) / watch.QUIET
        assert watched.registry.generation <= 2 + quiets, "it waits for the file to hold still before each reload"


async def test_a_storm_that_does_not_end_is_applied_all_the_same(file, monkeypatch):
    monkeypatch.setattr(watch, "LONGEST_QUIET", 0.2)
    async with Watched(file) as watched:
        end = time.monotonic() + PATIENCE
        places = 2
        while watched.registry.generation == 1 and time.monotonic() < end:
            rename_over(file, places := places + 1)
            await asyncio.sleep(0.005)
        assert watched.registry.generation > 1


async def test_if_watchfiles_fails_polling_carries_on_and_it_is_armed_again(file, monkeypatch):
    whole = watchfiles.watch
    monkeypatch.setattr(watchfiles, "watch", _refused)
    with EventLog() as log:
        async with Watched(file) as watched:
            [degraded] = await log.wait_for("watcher_degraded", timeout=PATIENCE)
            assert "No space left on device" in degraded.message
            assert watched.registry.status()["watcher"]["kind"] == "polling"
            assert "No space left" in watched.registry.status()["watcher"]["trouble"]
            rename_over(file, 2)
            await watched.shows(2)
            monkeypatch.setattr(watchfiles, "watch", whole)
            await log.wait_for("watcher_recovered", timeout=PATIENCE)
            assert watched.registry.status()["watcher"]["kind"] == "watchfiles"
            assert watched.registry.status()["watcher"]["trouble"] is None
            assert len(log.of("watcher_degraded")) == 1, "told once, not at every try"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1), MemoryError()], ids=repr)
async def test_the_watcher_outlives_what_is_raised_in_it(error, file, monkeypatch):
    with EventLog() as log:
        async with Watched(file) as watched:
            thread = watched.registry._watcher._thread
            reload, raised = watched.registry.reload, []

            def raise_once(**how):
                if not raised:
                    raised.append(error)
                    raise error
                return reload(**how)

            monkeypatch.setattr(watched.registry, "reload", raise_once)
            rename_over(file, 2)
            await watched.shows(2)
            await log.wait_for("watcher_degraded")
            assert watched.registry._watcher._thread is thread
            assert watched.registry.status()["watcher"]["alive"]


async def test_a_killed_watcher_has_another_thread_take_over(file):
    """Killed as hard as Python allows, wherever it is, again and again."""
    kill = ctypes.pythonapi.PyThreadState_SetAsyncExc
    async with Watched(file) as watched:
        watcher = watched.registry._watcher
        for places in range(2, 12):
            for _ in range(3):
                kill(ctypes.c_ulong(watcher._thread.ident), ctypes.py_object(SystemExit))
                await asyncio.sleep(0.01)
            rename_over(file, places)
        await watched.shows(11)
        assert watched.registry.status()["watcher"]["alive"]


async def test_changes_of_other_files_in_the_folder_do_not_fill_the_log(file, caplog):
    caplog.set_level("DEBUG")
    async with Watched(file) as watched:
        file.with_name("beside.txt").write_text("x")
        rename_over(file, 2)
        await watched.shows(2)
    assert [record for record in caplog.records if record.name.startswith("watchfiles")] == []


async def test_the_age_of_the_last_tick_shows_a_watcher_that_hangs(file, monkeypatch):
    async with Watched(file) as watched:
        assert watched.registry.status()["watcher"]["last_tick_age_seconds"] < PATIENCE
        watched.registry._watcher._tick -= 100
        hanging = watched.registry._watcher.status()["last_tick_age_seconds"]
        assert hanging is not None


def test_a_single_file_bind_mount_is_warned_about(tmp_path):
    """The table is as Linux writes it: octal escapes, a folder above, and a file of its own."""
    file, beside = tmp_path / "with space.yaml", tmp_path / "beside.yaml"
    mounts = tmp_path / "mountinfo"
    point = str(file).replace(" ", "\\040")
    mounts.write_text(
        f"36 35 0:31 / / rw,relatime - overlay overlay rw\n"
        f"63 36 254:0 /a {tmp_path} rw,relatime - ext4 /dev/vda rw\n"
        f"64 36 254:0 /var/lib/kubelet/pods/1/volume-subpaths/config/0 {point} ro - ext4 /dev/vda rw\n"
        "a line of another kernel\n"
    )
    assert mounted_alone([str(file), str(beside)], str(mounts)) == [str(file)]
    assert mounted_alone([str(file)], str(tmp_path / "absent")) == []


async def test_the_warning_of_a_single_file_mount_is_in_the_status_and_an_event(file, monkeypatch):
    monkeypatch.setattr(watch, "mounted_alone", lambda paths: list(paths))
    with EventLog() as log:
        async with Watched(file) as watched:
            [event] = await log.wait_for("watcher_degraded")
            assert "mount its folder" in event.message
            assert watched.registry.status()["watcher"]["mounted_alone"] == [str(file)]


def test_folders_are_those_on_the_way_and_those_where_a_missing_one_will_appear(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    watched = [path for path, _, _ in folders([str(tmp_path / "link" / "a.yaml"), str(tmp_path / "no" / "no" / "b")])]
    assert {str(tmp_path), str(tmp_path / "real"), str(tmp_path / "link")} == set(watched)


SETTING = """
import os, resource, sys, time
from aioresilience import Registry

def eventually(check):
    end = time.monotonic() + 45
    while not check():
        assert time.monotonic() < end, registry.status()
        time.sleep(0.01)

def say(what):
    print(what, flush=True)
    return sys.stdin.readline()
"""


def child(program, folder):
    """Run a program that says what it has seen, and waits for a line before it goes on."""
    command = [sys.executable, "-c", SETTING + textwrap.dedent(program), str(folder / "resilience.yaml")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go_on(process, expected):
    assert process.stdout.readline().strip() == expected
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def open_folder():
    """A folder that another user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        write(Path(folder, "resilience.yaml"), 1)
        yield Path(folder)


def test_permission_lost_and_regained(open_folder):
    """Permissions are nothing to root: the child becomes nobody first."""
    process = child(
        """
        registry = Registry.from_file(sys.argv[1], environ={})
        if os.getuid() == 0:
            os.setuid(65534)
        registry.start_watching()
        eventually(lambda: registry.status()["reloads"]["unchanged"])
        say("ready")
        eventually(lambda: not registry.status()["last_reload_successful"])
        assert "permission denied" in registry.status()["last_error"], registry.status()["last_error"]
        assert registry.status()["sources"][0]["read_ok"] is False
        assert registry.generation == 1
        say("lost")
        eventually(lambda: registry.status()["last_reload_successful"])
        assert registry.status()["sources"][0]["read_ok"] is True
        print("regained")
        """,
        open_folder,
    )
    go_on(process, "ready")
    (open_folder / "resilience.yaml").chmod(0)
    go_on(process, "lost")
    (open_folder / "resilience.yaml").chmod(0o644)
    assert process.communicate(timeout=120)[0].strip() == "regained"
    assert process.returncode == 0


def test_inotify_exhausted(open_folder):
    """For real: the process has one descriptor left, which is enough to read the file and not to watch it."""
    process = child(
        """
        registry = Registry.from_file(sys.argv[1], environ={})
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            os.close(taken.pop())
        registry.start_watching()
        eventually(lambda: registry.status()["watcher"]["kind"] == "polling")
        say("polling")
        eventually(lambda: registry.generation == 2)
        say("noticed")
        for one in taken:
            os.close(one)
        eventually(lambda: registry.status()["watcher"]["kind"] == "watchfiles")
        print("armed again")
        """,
        open_folder,
    )
    go_on(process, "polling")
    rename_over(open_folder / "resilience.yaml", 2)
    go_on(process, "noticed")
    assert process.communicate(timeout=120)[0].strip() == "armed again"
    assert process.returncode == 0


def test_fork(open_folder):
    """A forked child watches by itself, even if the parent was in the middle of a reload."""
    process = child(
        """
        import gc, threading
        registry = Registry.from_file(sys.argv[1], environ={})
        policy = registry.get("payments")
        registry.start_watching()
        eventually(lambda: registry.status()["reloads"]["unchanged"])
        stop, busy = threading.Event(), []

        def reloads():
            while not stop.is_set():
                for places in (2, 3):
                    registry.apply(f"{{version: 1, policies: {{payments: {{bulkhead: {places}}}}}}}")
                    busy.append(places)

        thread = threading.Thread(target=reloads)
        thread.start()
        eventually(lambda: busy)
        children = []
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                assert gc.isenabled()
                assert policy.bulkhead.max_concurrent in (1, 2, 3)
                eventually(lambda: policy.bulkhead.max_concurrent == 9)
                os._exit(0)
            children.append(pid)
        stop.set()
        thread.join()
        say("forked")
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 10
        eventually(lambda: policy.bulkhead.max_concurrent == 9)
        print("all of them")
        """,
        open_folder,
    )
    go_on(process, "forked")
    rename_over(open_folder / "resilience.yaml", 9)
    assert process.communicate(timeout=120)[0].strip() == "all of them"
    assert process.returncode == 0


async def test_a_secret_file_that_is_mounted_later_is_waited_for(noticing, file):
    secret = file.parent / "secrets" / "url"
    text_with_secret = f"version: 1\nbackends: {{main: {{type: redis, url: {{file: {secret}}}}}}}\n" + text(2)[11:]
    async with Watched(file) as watched:
        file.write_text(text_with_secret)
        await eventually(lambda: not watched.registry.status()["last_reload_successful"])
        secret.parent.mkdir()
        secret.write_text("redis://127.0.0.1:6379/0\n")
        await watched.shows(2)
