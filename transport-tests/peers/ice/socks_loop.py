"""An asyncio event loop whose UDP sockets are SOCKS5 UDP associations (RFC 1928 §7): libraries that ask the loop for a
datagram endpoint run over a proxy without knowing it."""
import asyncio, ipaddress, struct


class Refused(OSError):
    """The proxy gives no association."""


class Outer(asyncio.DatagramTransport):
    """What the library writes to."""

    def __init__(self, inner, control):
        super().__init__()
        self.inner, self.control = inner, control

    def sendto(self, data, addr=None):
        self.inner.sendto(header(addr) + data)

    def get_extra_info(self, name, default=None):
        return self.inner.get_extra_info(name, default)

    def is_closing(self):
        return self.inner.is_closing()

    def close(self):
        self.inner.close()
        self.control.close()

    def abort(self):
        self.inner.abort()
        self.control.close()


class Inner(asyncio.DatagramProtocol):
    """What arrives from the proxy, on its way to the library's protocol."""

    def __init__(self, protocol):
        self.protocol = protocol

    def datagram_received(self, data, addr):
        source, payload = parse(data)
        if source is not None:
            self.protocol.datagram_received(payload, source)

    def error_received(self, exc):
        self.protocol.error_received(exc)

    def connection_lost(self, exc):
        self.protocol.connection_lost(exc)


class SocksLoop(asyncio.SelectorEventLoop):
    """A datagram endpoint that is bound to a local address goes through `proxy`; all others are as ever."""

    def __init__(self, proxy):
        super().__init__()
        self.proxy = proxy

    async def create_datagram_endpoint(self, protocol_factory, local_addr=None, remote_addr=None, **more):
        if local_addr is None or remote_addr is not None:
            return await super().create_datagram_endpoint(protocol_factory, local_addr, remote_addr, **more)
        bound, control = await associate(self.proxy)
        protocol = protocol_factory()
        try:
            inner, _ = await super().create_datagram_endpoint(lambda: Inner(protocol), remote_addr=bound)
        except OSError:
            control.close()
            raise
        outer = Outer(inner, control)
        protocol.connection_made(outer)
        return outer, protocol


async def associate(proxy):
    """The UDP address of a new association, and the TCP connection that it lives with."""
    reader, writer = await asyncio.open_connection(*proxy)
    try:
        writer.write(b"\x05\x01\x00")
        if await reader.readexactly(2) != b"\x05\x00":
            raise Refused("the proxy wants authentication")
        writer.write(b"\x05\x03\x00" + header(("0.0.0.0", 0))[3:])
        version, reply, _, kind = await reader.readexactly(4)
        if (version, reply) != (5, 0) or kind not in (1, 4):
            raise Refused(f"the proxy refuses UDP ASSOCIATE: {reply}")
        host = ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
    except (OSError, EOFError):
        writer.close()
        raise
    return (proxy[0] if host.is_unspecified else str(host), port), writer


def header(addr):
    ip = ipaddress.ip_address(addr[0])
    return b"\0\0\0" + (b"\x01" if ip.version == 4 else b"\x04") + ip.packed + struct.pack("!H", addr[1])


def parse(data):
    """Source and payload of a datagram of the proxy; no source when it is a fragment, a name or none at all."""
    length = {1: 4, 4: 16}.get(data[3] if len(data) > 3 and data[2] == 0 else 0)
    if length is None or len(data) < 6 + length:
        return None, b""
    (port,) = struct.unpack("!H", data[4 + length : 6 + length])
    return (str(ipaddress.ip_address(data[4 : 4 + length])), port), data[6 + length :]
