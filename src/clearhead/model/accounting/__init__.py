"""What a model costs, by component: parameters, FLOPs, and the bytes of activations, caches and optimiser states."""

from clearhead.model.accounting.account import Account, Line, account
from clearhead.model.accounting.activations import activation_bytes
from clearhead.model.accounting.cost import Cost, Work, product
from clearhead.model.accounting.flops import cost, flops
from clearhead.model.accounting.pairs import mixing, relating
from clearhead.model.accounting.parameters import component, parameters
from clearhead.model.accounting.states import cache_elements

__all__ = [
    "Account",
    "Cost",
    "Line",
    "Work",
    "account",
    "activation_bytes",
    "cache_elements",
    "component",
    "cost",
    "flops",
    "mixing",
    "parameters",
    "product",
    "relating",
]
