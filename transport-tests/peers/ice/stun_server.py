"""A STUN server (RFC 8489) that answers binding requests: stun_server.py ADDRESS PORT."""
import asyncio, sys

from aioice import stun


class Server(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        try:
            request = stun.parse_message(data)
        except ValueError:
            return
        if (request.message_method, request.message_class) != (stun.Method.BINDING, stun.Class.REQUEST):
            return
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = addr
        response.add_fingerprint()
        self.transport.sendto(bytes(response), addr)


async def main(host, port):
    await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=(host, int(port)))
    print("READY", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
