# SPDX-License-Identifier: Apache-2.0
"""Real libraries, each used for what people use it for. A function for each, named after the library: it imports it,
works, checks what comes out, and returns its own name. The directory is for its files."""

import contextlib
import os
import sys
import threading


def use_forever(name, path):
    """Until it is interrupted. The first round is over when the mark is there."""
    while True:
        globals()[name](path)
        with open(os.path.join(path, 'used'), 'w', encoding='ascii'):
            pass


def is_installed(name):
    import importlib.util  # pylint: disable=import-outside-toplevel
    return importlib.util.find_spec({'pillow': 'PIL', 'scikit_learn': 'sklearn'}.get(name, name)) is not None


def own(path, name):
    """A file of this context: others use the same directory at the same time."""
    return os.path.join(path, f'{os.getpid()}.{threading.get_ident()}.{name}')


# --- numbers and tables


def numpy(_path):
    import numpy as np
    a = np.arange(10000, dtype='float64').reshape(100, 100)
    q, r = np.linalg.qr(a + np.eye(100) * 1e4)
    assert np.allclose(q @ r, a + np.eye(100) * 1e4)
    assert np.fft.irfft(np.fft.rfft(a[0])).shape == (100,)
    assert np.random.default_rng(1).integers(0, 10, 1000).max() == 9
    return 'numpy'


def pandas(path):
    import pandas as pd
    frame = pd.DataFrame({'k': [i % 7 for i in range(7000)], 'v': range(7000)})
    assert frame.groupby('k')['v'].sum().sum() == sum(range(7000))
    file = own(path, 'frame.csv')
    frame.to_csv(file, index=False)
    assert pd.read_csv(file).equals(frame)
    days = pd.date_range('2024-01-01', periods=366, freq='D')
    assert pd.Series(1, index=days).resample('MS').sum().iloc[1] == 29
    return 'pandas'


def scipy(_path):
    from scipy import integrate, optimize, sparse
    import scipy.sparse.linalg as solver
    found = optimize.minimize(lambda x: (x[0] - 3) ** 2 + (x[1] + 1) ** 2, [0, 0])
    assert abs(found.x[0] - 3) < 1e-3 and abs(found.x[1] + 1) < 1e-3
    assert abs(integrate.quad(lambda x: x * x, 0, 3)[0] - 9) < 1e-9
    identity = sparse.identity(50, format='csc')
    assert solver.spsolve(identity, range(50))[7] == 7
    return 'scipy'


def scikit_learn(_path):
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression
    x = np.arange(200, dtype='float64').reshape(100, 2)
    assert abs(LinearRegression().fit(x, x.sum(axis=1)).score(x, x.sum(axis=1)) - 1) < 1e-9
    label = (x[:, 0] > 100).astype(int)
    forest = RandomForestClassifier(n_estimators=10, n_jobs=2, random_state=0).fit(x, label)
    assert forest.score(x, label) > 0.9
    return 'scikit_learn'


def pyarrow(path):
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet
    table = pa.table({'k': [i % 3 for i in range(3000)], 'v': list(range(3000))})
    file = own(path, 'table.parquet')
    parquet.write_table(table, file)
    back = parquet.read_table(file)
    assert back.equals(table) and pc.sum(back['v']).as_py() == sum(range(3000))
    return 'pyarrow'


def polars(path):
    import polars as pl
    frame = pl.DataFrame({'k': [i % 5 for i in range(5000)], 'v': range(5000)})
    summed = frame.lazy().group_by('k').agg(pl.col('v').sum()).sort('k').collect()
    assert summed['v'].sum() == sum(range(5000))
    file = own(path, 'frame_pl.csv')
    frame.write_csv(file)
    assert pl.read_csv(file).shape == (5000, 2)
    return 'polars'


# --- pictures


def pillow(path):
    from PIL import Image, ImageFilter
    picture = Image.new('RGB', (200, 100), (10, 20, 30)).filter(ImageFilter.GaussianBlur(2)).rotate(90, expand=True)
    file = own(path, 'picture.png')
    picture.save(file)
    with Image.open(file) as back:
        assert back.size == (100, 200) and back.convert('L').getpixel((50, 100)) == 18
    return 'pillow'


def matplotlib(path):
    os.environ.setdefault('MPLCONFIGDIR', path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.add_subplot().plot(range(10), [x * x for x in range(10)], label='squares')
    file = own(path, 'figure.png')
    figure.savefig(file)
    with open(file, 'rb') as picture:
        assert picture.read(4) == b'\x89PNG'
    return 'matplotlib'


# --- data


def orjson(_path):
    import datetime
    import orjson as oj
    value = {'a': [1, 2.5, None, True], 'text': '\u00e4' * 1000, 'when': datetime.datetime(2024, 2, 29)}
    assert oj.loads(oj.dumps(value))['when'] == '2024-02-29T00:00:00'
    return 'orjson'


def pydantic(_path):
    from typing import Optional
    from pydantic import BaseModel, ValidationError

    class Item(BaseModel):
        name: str
        price: float
        tags: list[str] = []
        parent: Optional['Item'] = None

    Item.model_rebuild(_types_namespace={'Item': Item, 'Optional': Optional})
    item = Item.model_validate_json('{"name": "x", "price": "1.5", "parent": {"name": "y", "price": 2}}')
    assert item.price == 1.5 and item.parent.name == 'y'
    try:
        Item(name='x', price='dear')
    except ValidationError as error:
        assert error.error_count() == 1
    else:
        raise AssertionError('a price that is none')
    return 'pydantic'


def cryptography(_path):
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    box = Fernet(Fernet.generate_key())
    assert box.decrypt(box.encrypt(b'text' * 1000)) == b'text' * 1000
    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(b'text', ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b'text', ec.ECDSA(hashes.SHA256()))
    return 'cryptography'


def lxml(_path):
    from lxml import etree
    root = etree.fromstring('<a>' + ''.join(f'<b n="{i}"/>' for i in range(1000)) + '</a>')
    assert len(root.xpath('//b[@n > 500]')) == 499
    style = etree.XSLT(etree.fromstring(
        '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        '<xsl:template match="/a"><n><xsl:value-of select="count(b)"/></n></xsl:template></xsl:stylesheet>'))
    assert style(root).getroot().text == '1000'
    return 'lxml'


def sqlite3(path):
    import sqlite3 as sq
    # The other contexts use the same file.
    with contextlib.closing(sq.connect(os.path.join(path, 'base.db'), timeout=60)) as base:
        with base:
            base.execute('create table if not exists t (who integer, n integer)')
            me = os.getpid() * 1000003 + threading.get_ident() % 1000003
            base.execute('delete from t where who = ?', (me,))
            base.executemany('insert into t values (?, ?)', [(me, n) for n in range(500)])
        assert base.execute('select sum(n) from t where who = ?', (me,)).fetchone() == (sum(range(500)),)
    return 'sqlite3'


# --- the network


@contextlib.contextmanager
def server():
    """An address of this machine where the body of a request comes back."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Echo(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_POST(self):  # pylint: disable=invalid-name
            body = self.rfile.read(int(self.headers['Content-Length']))
            self.send_response(200)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):  # pylint: disable=arguments-differ
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Echo) as http:
        http.daemon_threads = True
        # So that an interrupted request does not wait for the threads of its connections.
        http.block_on_close = False
        thread = threading.Thread(target=http.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
        thread.start()
        try:
            yield f'http://127.0.0.1:{http.server_port}/'
        finally:
            http.shutdown()
            thread.join()


def requests(_path):
    import requests as rq
    with server() as url, rq.Session() as session:
        session.trust_env = False
        for n in range(5):
            assert session.post(url, json={'n': n}, timeout=60).json() == {'n': n}
    return 'requests'


def httpx(_path):
    import asyncio as aio
    import httpx as hx

    async def many(url):
        async with hx.AsyncClient(trust_env=False, timeout=60) as client:
            return await aio.gather(*[client.post(url, json={'n': n}) for n in range(5)])

    with server() as url:
        with hx.Client(trust_env=False, timeout=60) as client:
            assert client.post(url, json=[1]).json() == [1]
        assert [r.json()['n'] for r in aio.run(many(url))] == list(range(5))
    return 'httpx'


# --- at the same time


def square(x):
    """Runs in other processes, which import this module."""
    return x * x


def multiprocessing(_path):
    import multiprocessing as mp
    for method in mp.get_all_start_methods():
        context = mp.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(square, range(20)) == [n * n for n in range(20)], method
        queue = context.SimpleQueue()
        child = context.Process(target=queue.put, args=(method,))
        child.start()
        assert queue.get() == method
        child.join()
        assert child.exitcode == 0, (method, child.exitcode)
    return 'multiprocessing'


def joblib(_path):
    import joblib as jl
    for backend in ['loky', 'threading']:
        found = jl.Parallel(n_jobs=2, backend=backend)(jl.delayed(square)(n) for n in range(20))
        assert found == [n * n for n in range(20)], backend
    return 'joblib'


def asyncio(_path):
    import asyncio as aio

    async def wait(n):
        await aio.sleep(0.001 * (n % 3))
        return n

    async def main():
        numbers = await aio.gather(*[wait(n) for n in range(100)])
        thread = await aio.to_thread(square, 7)
        server_side = []

        async def answer(reader, writer):
            server_side.append(await reader.readline())
            writer.write(b'pong\n')
            await writer.drain()
            writer.close()

        async with await aio.start_server(answer, '127.0.0.1', 0) as listener:
            reader, writer = await aio.open_connection(*listener.sockets[0].getsockname())
            writer.write(b'ping\n')
            pong = await reader.readline()
            writer.close()
        return sum(numbers), thread, server_side, pong

    assert aio.run(main()) == (4950, 49, [b'ping\n'], b'pong\n')
    return 'asyncio'


if __name__ == '__main__':
    print(globals()[sys.argv[1]](sys.argv[2]))
