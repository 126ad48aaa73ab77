# SPDX-License-Identifier: Apache-2.0
"""The Python half of reentrant_demo.erl, which runs it in its namespace."""

import erlang
from erlang import call


# 1. Python computes, Erlang does the arithmetic.
def polynomial(coefficients, x):
    """Horner's rule; each addition and multiplication is an Erlang function."""
    value = 0
    for coefficient in coefficients:
        value = erlang.demo_add(erlang.demo_multiply(value, x), coefficient)
    return value


# 2. Erlang remembers, Python computes what it does not know yet.
def fibonacci(n):
    if n < 2:
        return n
    return call('demo_fibonacci', n - 1) + call('demo_fibonacci', n - 2)


# 3. Each level calls the other language, with the way so far.
def level(n, top, path):
    path = path + [f'python {n}']
    return path if n >= top else call('demo_level', n + 1, top, path)


# 4. Objects stay in Python; Erlang decides, and may look at them meanwhile.
class Account:
    accounts = {}

    def __init__(self, owner, balance):
        self.owner = owner
        self.balance = balance

    @classmethod
    def open(cls, owner, balance):
        cls.accounts[owner] = cls(owner, balance)
        return cls.accounts[owner]

    @classmethod
    def balance_of(cls, owner):
        return cls.accounts[owner].balance

    def withdraw(self, amount):
        # This method is on the stack while Erlang calls balance_of on the same object.
        if not erlang.demo_approve(self.owner, amount):
            raise ValueError(f'{self.owner} cannot pay {amount}')
        self.balance -= amount

    def transfer(self, other, amount):
        self.withdraw(amount)
        other.balance += amount


def balance_of(owner):
    return Account.balance_of(owner)


def objects():
    alice, bob = Account.open('alice', 100), Account.open('bob', 5)
    alice.transfer(bob, 70)
    try:
        bob.transfer(alice, 1000)
    except ValueError as refused:
        return {'alice': alice.balance, 'bob': bob.balance, 'refused': str(refused)}


def failing_callback():
    """What a function that fails in Erlang looks like here."""
    try:
        call('demo_fail', 'no luck')
    except erlang.CallbackError as error:
        return (error.class_, error.reason, str(error))
