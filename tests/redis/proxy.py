"""A proxy on loopback that does to a connection what networks and servers do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading


class FaultProxy:
    """Passes bytes on to a server, until it is told otherwise; runs on a thread of its own.

    `delay`: seconds before each reply. `black_hole`: nothing comes back, new connections are accepted. `cut`: so many
    bytes of the next reply, then the connection is closed. `reset`: every connection ends with a reset, new ones too.
    `refuse`: nobody listens.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = port
        self.delay = 0.0
        self.black_hole = self.reset = False
        self.cut: int | None = None
        self.connections = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls))
        self.port = self._server.sockets[0].getsockname()[1]

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self._tasks.add(asyncio.current_task())
        if self.reset:
            self._reset(writer)
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(back)
            await asyncio.gather(self._pass_on(reader, back, reply=False), self._pass_on(there, writer, reply=True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, *([back] if "back" in locals() else [])):
                self._writers.discard(one)
                one.close()
            self._tasks.discard(asyncio.current_task())

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reply: bool) -> None:
        while data := await reader.read(65536):
            if reply and self.delay:
                await asyncio.sleep(self.delay)
            if self.black_hole:
                continue
            if reply and self.cut is not None:
                part, self.cut = data[: self.cut], None
                writer.write(part)
                await writer.drain()
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            one = writer.get_extra_info("socket")
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def reset_all(self) -> None:
        """End every connection with a reset, now."""

        async def end() -> None:
            for writer in list(self._writers):
                self._reset(writer)

        self._do(end())

    def refuse(self) -> None:
        """Stop listening, and end every connection."""

        self._do(self._stop_listening())
        self.reset_all()

    def listen(self) -> None:
        """Listen again, at the same port."""
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls))

    def close(self) -> None:
        async def end() -> None:
            """Leave nothing open, not even what is accepted just now: somebody may still be trying to connect."""
            await self._stop_listening()
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for transport in list(self._loop._transports.values()):
                transport.abort()
            await self._some_turns()  # they say goodbye

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop_listening(self) -> None:
        """Accept no more; a server that closes before it serves what it accepted would never close that."""
        for one in self._server.sockets:
            self._loop.remove_reader(one.fileno())
        await self._some_turns()
        self._server.close()

    @staticmethod
    async def _some_turns() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
