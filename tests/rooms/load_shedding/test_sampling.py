import asyncio
import builtins
import gc
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from aioresilience.calls import ANYONE, Caller
from aioresilience.load_shedding import BasicLoadShedder, LoadLevel, LoadSheddingConfig, SystemLoadShedder, cgroup
from aioresilience.load_shedding.sampling import Sample, SystemReader, SystemSampler, require_psutil
from aioresilience.testing import VirtualClock

MB = 1 << 20


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/pod/cpu.max": "max 100000\n",
    "sys/fs/cgroup/pod/cpu.stat": "usage_usec 0\n",
    "sys/fs/cgroup/pod/memory.max": f"{1000 * MB}\n",
    "sys/fs/cgroup/pod/memory.current": f"{500 * MB}\n",
    "sys/fs/cgroup/pod/memory.stat": f"anon 1\nactive_file {100 * MB}\ninactive_file {200 * MB}\n",
    "sys/fs/cgroup/pod/app/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/pod/app/cpu.stat": "usage_usec 3000000\nnr_periods 5\n",
    "sys/fs/cgroup/pod/app/memory.max": "max\n",
    "sys/fs/cgroup/pod/app/memory.current": f"{400 * MB}\n",
    "sys/fs/cgroup/pod/app/memory.stat": "active_file 0\n",
}
V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/x/cpuacct.usage": "2000000000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage": "9000000000\n",
    "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{1000 * MB}\n",
    "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{900 * MB}\n",
    "sys/fs/cgroup/memory/docker/x/memory.stat": (
        f"cache 1\ntotal_active_file {300 * MB}\ntotal_inactive_file {200 * MB}\n"
    ),
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
}


# --- what the container may use


def test_version_2_reads_every_limit_from_the_own_group_upward(tmp_path):
    tree(tmp_path, V2)
    group = cgroup.find(tmp_path)
    assert [(use.seconds, use.cpus) for use in group.cpu()] == [(3.0, 1.5)]
    assert list(group.memory()) == [(200 * MB, 1000 * MB)]


def test_version_1_reads_every_limit_from_the_own_group_upward(tmp_path):
    tree(tmp_path, V1)
    group = cgroup.find(tmp_path)
    assert [(use.seconds, use.cpus) for use in group.cpu()] == [(2.0, 0.5)]
    assert list(group.memory()) == [(400 * MB, 1000 * MB)]


def test_a_container_that_sees_only_its_own_group_reads_the_mount(tmp_path):
    moved = {name.replace("/docker/x/", "/"): text for name, text in reversed(V1.items())}
    tree(tmp_path, moved)
    group = cgroup.find(tmp_path)
    assert [(use.seconds, use.cpus) for use in group.cpu()] == [(2.0, 0.5)]
    assert list(group.memory()) == [(400 * MB, 1000 * MB)]


def test_version_1_with_separate_mounts_reads_the_account_at_the_same_height(tmp_path):
    apart = {}
    for name, text in V1.items():
        mount = "cpuacct" if "cpuacct.usage" in name else "cpu"
        apart[name.replace("cpu,cpuacct", mount)] = text
    apart["proc/self/cgroup"] = "5:cpu:/docker/x\n4:cpuacct:/docker/x/deeper\n"
    apart["sys/fs/cgroup/cpuacct/docker/x/deeper/cpuacct.usage"] = "1\n"
    tree(tmp_path, apart)
    assert [use.seconds for use in cgroup.find(tmp_path).cpu()] == [2.0]


@pytest.mark.parametrize("files", [{}, {"proc/self/cgroup": "nonsense\n"}, {"sys/fs/cgroup/cgroup.controllers": ""}])
def test_where_nothing_is_limited_there_is_nothing_to_read(tmp_path, files):
    tree(tmp_path, files)
    group = cgroup.find(tmp_path)
    assert list(group.cpu()) == []
    assert list(group.memory()) == []


def test_garbage_in_a_file_is_no_limit(tmp_path):
    garbled = V2 | {"sys/fs/cgroup/pod/app/cpu.max": "lots\n", "sys/fs/cgroup/pod/memory.max": "\xff\n"}
    tree(tmp_path, garbled)
    group = cgroup.find(tmp_path)
    assert list(group.cpu()) == []
    assert list(group.memory()) == []


def test_the_cpu_use_is_that_since_the_last_reading_as_a_share_of_the_quota(tmp_path):
    tree(tmp_path, V2)
    clock = VirtualClock()
    reader = SystemReader(tmp_path, clock.monotonic)
    clock.move(2.0)
    tree(tmp_path, {"sys/fs/cgroup/pod/app/cpu.stat": "usage_usec 4500000\n"})
    assert reader().cpu_percent == pytest.approx(50.0)
    clock.move(1.0)
    assert reader() == Sample(0.0, 20.0)


def test_where_nothing_is_limited_the_machine_is_read(tmp_path, monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "cpu_percent", lambda interval=None: 12.5)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"percent": 34.5}))
    assert SystemReader(tmp_path)() == Sample(12.5, 34.5)


def test_the_machine_this_runs_on_can_be_read():
    sample = SystemReader()()
    assert sample.cpu_percent >= 0
    assert 0 < sample.memory_percent <= 100


# --- the thread


class Readings:
    """A reader to steer from a test."""

    def __init__(self, *samples):
        self.samples = list(samples) or [Sample(10.0, 10.0)]
        self.read = 0
        self.threads = set()

    def __call__(self):
        self.read += 1
        self.threads.add(threading.current_thread())
        sample = self.samples[0] if len(self.samples) == 1 else self.samples.pop(0)
        if isinstance(sample, Exception):
            raise sample
        return sample


def sampler_of(readings):
    return SystemSampler(lambda: readings, require=lambda: None)


def shedder_of(sampler, **fields):
    class Shedder(BasicLoadShedder):
        pass

    Shedder.sampler = sampler
    fields.setdefault("check_interval", 0.01)
    return Shedder(LoadSheddingConfig(**fields), name="api")


def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ended(sampler):
    gc.collect()
    until(lambda: not sampler.running)


def test_sampling_starts_with_the_first_use_and_ends_with_the_last_shedder():
    readings = Readings()
    sampler = sampler_of(readings)
    one, two = (shedder_of(sampler, cpu_threshold=50) for _ in range(2))
    assert not sampler.running
    one.admit(ANYONE)
    two.admit(ANYONE)
    assert sampler.running
    until(lambda: readings.read > 2)
    assert len(readings.threads) == 1
    assert threading.current_thread() not in readings.threads
    del one
    gc.collect()
    assert sampler.running
    del two
    ended(sampler)
    assert sampler.sample is None


def test_it_starts_again_after_it_ended():
    sampler = sampler_of(Readings())
    for _ in range(2):
        shedder = shedder_of(sampler, memory_threshold=50)
        shedder.admit(ANYONE)
        until(lambda: sampler.sample is not None)
        del shedder
        ended(sampler)


def test_without_thresholds_nothing_is_sampled():
    sampler = sampler_of(Readings())
    shedder = shedder_of(sampler, max_lag=1.0, max_age=1.0)
    shedder.admit(ANYONE)
    shedder.should_shed_load()
    assert not sampler.running


def test_what_is_sampled_sheds():
    sampler = sampler_of(Readings(Sample(88.0, 10.0)))
    shedder = shedder_of(sampler, cpu_threshold=85)
    assert shedder.admit(ANYONE), "nothing is known yet"
    until(lambda: sampler.sample is not None)
    assert shedder.admit(ANYONE) is None
    assert shedder.should_shed_load() == (True, "CPU use 88 % (limit 85 %)")
    assert shedder.admit(Caller(priority="high"))
    assert shedder.load_level is LoadLevel.HIGH
    del shedder
    ended(sampler)


@pytest.mark.parametrize(
    ("cpu", "memory", "level"),
    [(60, 70, 0), (61, 0, 1), (0, 71, 1), (76, 0, 2), (0, 79, 1), (0, 81, 2), (91, 0, 3), (0, 91, 3)],
)
def test_system_levels(cpu, memory, level):
    sampler = sampler_of(Readings(Sample(float(cpu), float(memory))))
    shedder = shedder_of(sampler, cpu_threshold=85, memory_threshold=85)
    shedder.admit(ANYONE)
    until(lambda: sampler.sample is not None)
    assert shedder.load_level is LoadLevel(level)
    assert (shedder.admit(Caller(priority="high")) is None) == (level == 3)
    del shedder
    ended(sampler)


def test_a_reading_that_fails_is_reported_once_and_sheds_nobody(caplog):
    readings = Readings(Sample(99.0, 0.0), OSError("gone"), OSError("gone"), OSError("gone"), Sample(99.0, 0.0))
    sampler = sampler_of(readings)
    shedder = shedder_of(sampler, cpu_threshold=85)
    with caplog.at_level("ERROR", "aioresilience"):
        shedder.admit(ANYONE)
        until(lambda: readings.read >= 5)
        until(lambda: sampler.sample is not None)
    assert sum("gone" in record.message for record in caplog.records) == 1
    del shedder
    ended(sampler)


def test_retuning_changes_the_interval_and_keeps_the_sample():
    readings = Readings()
    sampler = sampler_of(readings)
    shedder = shedder_of(sampler, cpu_threshold=50)
    shedder.admit(ANYONE)
    until(lambda: sampler.sample is not None)
    shedder.retune(LoadSheddingConfig(cpu_threshold=5, check_interval=30))
    assert sampler.running
    assert shedder.admit(ANYONE) is None
    shedder.retune(LoadSheddingConfig(cpu_threshold=50, check_interval=0.01))
    before = readings.read
    until(lambda: readings.read > before)
    shedder.retune(LoadSheddingConfig())
    until(lambda: not sampler.running)


def test_a_long_interval_does_not_keep_the_thread_alive():
    sampler = sampler_of(Readings())
    shedder = shedder_of(sampler, cpu_threshold=50, check_interval=3600)
    shedder.admit(ANYONE)
    until(lambda: sampler.sample is not None)
    del shedder
    ended(sampler)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_the_next_use_starts_the_thread_anew():
    sampler = sampler_of(Readings())
    shedder = shedder_of(sampler, cpu_threshold=50)
    shedder.admit(ANYONE)
    until(lambda: sampler.sample is not None)
    sampler.forget_thread()  # what os.register_at_fork calls in the child
    assert sampler.sample is None
    shedder.admit(ANYONE)
    until(lambda: sampler.sample is not None)
    del shedder
    gc.collect()
    until(lambda: not sampler.running)


# --- psutil


def test_importing_the_room_does_not_import_psutil():
    code = (
        "import sys, aioresilience.load_shedding as room; room.SystemLoadShedder(); "
        "room.BasicLoadShedder().should_shed_load(); assert 'psutil' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_missing_psutil_is_an_error_at_use_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    shedder = SystemLoadShedder()
    for use in (shedder.should_shed_load, shedder.get_stats, lambda: shedder.admit(ANYONE)):
        with pytest.raises(ModuleNotFoundError, match=r"aioresilience\[system\]"):
            use()
    with pytest.raises(ModuleNotFoundError, match="psutil"):
        await shedder.acquire()
    assert json.dumps(shedder.status())
    assert shedder.active_requests == 0


def test_a_psutil_put_in_place_by_hand_counts_as_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", type(sys)("psutil"))
    require_psutil()


async def test_the_system_shedder_works_for_real(monkeypatch):
    shedder = SystemLoadShedder(cpu_threshold=100, memory_threshold=100, check_interval=0.01)
    imported = []
    real_import = builtins.__import__

    def noting(name, *args, **kwargs):
        if name == "psutil":
            imported.append(threading.current_thread())
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", noting)
    assert await shedder.acquire()
    await shedder.release()
    for _ in range(1000):
        if shedder.get_stats()["memory_percent"]:
            break
        await asyncio.sleep(0.005)
    stats = shedder.get_stats()
    assert stats["type"] == "system"
    assert 0 < stats["memory_percent"] <= 100
    assert set(stats) >= {"cpu_percent", "active_requests", "load_level"}
    assert threading.current_thread() not in imported
    sampler = shedder.sampler
    del shedder
    gc.collect()
    for _ in range(500):
        if not sampler.running:
            break
        await asyncio.sleep(0.005)
    assert not sampler.running
