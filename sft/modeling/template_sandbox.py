"""Jinja's sandbox with a bound on time and on what a chat template makes, for templates come from anywhere.

transformers renders in Jinja's ImmutableSandboxedEnvironment, which keeps a template off the machine but lets
it run and grow for ever: two loops of 100,000 rounds, 'a' * 10**10, two equal lists compared. Nothing
interrupts a single call into C, and a thread has no timer of its own, so the environment here looks at the
clock at every round of a loop and every operation, and before it at the size of what it is applied to
(`sft.modeling.template_budget`). It needs no signal, thread or process. Blocks with a filter, which no
published template has, are refused: they would pass by it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from sft.modeling import template_costs as costs
from sft.modeling.template_budget import (
    Budget,
    TemplateLimit,
    check_bits,
    check_power,
    size_of,
    taken,
    weight,
)

_SOURCE = 256 << 10  # characters of a template; compiled in seconds. Published ones have some 20,000
_OF_DICT = frozenset(dir(dict))


class _BoundContext(Context):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.budget = Budget()

    def derived(self, locals: dict[str, Any] | None = None) -> "_BoundContext":
        """Return a context for a block: of the same rendering."""
        context: Any = super().derived(locals)
        context.budget = self.budget
        return context


class _Rounds:
    """What a loop goes through; the text that stands in its body counts at each round."""

    def __init__(self, budget: Budget, values: Any, text: int) -> None:
        self._budget, self._values, self._cost = budget, values, 1 + text

    def __iter__(self) -> Iterator[Any]:
        spend, cost = self._budget.spend, self._cost
        for value in self._values:
            spend(cost)
            yield value

    def __len__(self) -> int:
        return len(self._values)


class _Wrapped(NodeTransformer):
    """Has what the sandbox does not see, such as loops and filters, go through the environment's methods."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        node.iter = _asked("rounds", node, node.iter, nodes.Const(text))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.node is None:
            raise TemplateSyntaxError("blocks with a filter are not rendered", node.lineno)
        call: Any = _asked("filtered", node, nodes.Const(node.name), node.node, *node.args)
        call.kwargs, call.dyn_args, call.dyn_kwargs = node.kwargs, node.dyn_args, node.dyn_kwargs
        return call

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.name in costs.TESTS_AT_ONCE or node.name not in node.environment.tests:  # type: ignore[union-attr]
            return node
        call: Any = _asked("tested", node, nodes.Const(node.name), node.node, *node.args)
        call.kwargs, call.dyn_args, call.dyn_kwargs = node.kwargs, node.dyn_args, node.dyn_kwargs
        return call

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        sides: list[Any] = [node.expr, *(operand.expr for operand in node.ops)]
        weighed = list(sides)
        for at, operand in enumerate(node.ops):
            is_in = operand.op in ("in", "notin")
            if _is_plain(sides[at + 1]) or (_is_plain(sides[at]) and not is_in):
                continue  # as long as what is written out at most
            for side in (at, at + 1):
                if not _is_plain(sides[side]) and weighed[side] is sides[side]:
                    holds = nodes.Const(is_in and side > at)
                    weighed[side] = _asked("weighed", node, sides[side], holds)
        node.expr = weighed[0]
        for operand, side in zip(node.ops, weighed[1:], strict=True):
            operand.expr = side
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _asked("joined", node, *node.nodes)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        return _asked("sliced", node, node.node, *(end or nodes.Const(None) for end in ends))

    def visit_List(self, node: Any) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        is_plain = _is_plain(node) or getattr(node, "ctx", "") == "store"
        return node if is_plain else _asked("made", node, node)

    visit_Dict = visit_Tuple = visit_List  # noqa: N815


def _asked(name: str, at: nodes.Node, *args: Any) -> nodes.Call:
    """Make the call of a method of the environment, with the rendering's context."""
    environment: Any = at.environment
    call = nodes.Call(nodes.EnvironmentAttribute(name), [nodes.ContextReference(), *args], [], None, None)
    for node in (call, call.node, *call.args):
        node.set_lineno(at.lineno).set_environment(environment)
    return call


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Raises TemplateLimit where a rendering takes longer than SECONDS or makes more than WORK."""

    context_class = _BoundContext
    intercepted_binops = frozenset(["*", "**", "+", "%", "//"])

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.finalize = _printed

    def _parse(self, source: str, *args: Any) -> nodes.Template:
        if len(source) > _SOURCE:
            raise TemplateSyntaxError(f"longer than {_SOURCE >> 10} Ki characters", 1)
        return _Wrapped().visit(super()._parse(source, *args))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a key of a mapping, sooner than Jinja does: that pays for what is looked at here."""
        if type(obj) is dict and attribute in obj and attribute not in _OF_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator to what does not multiply to more than the rendering may make."""
        if operator == "+":
            context.budget.make(size_of(left) + size_of(right))
            return left + right
        if operator == "%" and isinstance(left, str):
            costs.check_format(context.budget, left, right if isinstance(right, tuple) else (right,))
        elif operator == "**":
            check_power(left, right)
        elif operator == "*" and not (isinstance(left, int) and isinstance(right, int)):
            one, times = (left, right) if isinstance(right, int) else (right, left)
            cost = max(weight(one), size_of(one)) * max(times, 0) if isinstance(times, int) else 1
            context.budget.spend(cost)
        else:
            check_bits(left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what a template calls: a method, a macro, a global function."""
        # Jinja has a function of its own instead of a text's `format`.
        subject = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if (
            subject is __self
        ):  # what _Wrapped has put there; variables of loops and blocks come with every call
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return __obj(*args, **kwargs)
        if not isinstance(__obj, Macro | LoopContext):  # whose bodies are bounded themselves
            given = [*args, *kwargs.values()]
            costs.check_call(__context.budget, getattr(__obj, "__name__", ""), subject, given)
        result = super().call(__context, __obj, *args, **kwargs)
        __context.budget.spend(size_of(result))
        return result

    def call_filter(
        self, name: str, value: Any, args: Any = None, kwargs: Any = None, *of: Any, **more: Any
    ) -> Any:
        """Apply a filter by its name, as `map` does too."""
        context: Any = of[0] if of else more.get("context")
        value = costs.filter_input(context.budget, name, value)
        costs.check_filter(context.budget, name, value, [*(args or ()), *(kwargs or {}).values()])
        result = super().call_filter(name, value, args, kwargs, *of, **more)
        context.budget.spend(size_of(result))
        return result

    def call_test(
        self, name: str, value: Any, args: Any = None, kwargs: Any = None, *of: Any, **more: Any
    ) -> Any:
        """Apply a test by its name, as `select` does too."""
        context: Any = of[0] if of else more.get("context")
        if name in costs.TESTS_AT_ONCE:
            context.budget.read(0)
        else:
            given = [*(args or ()), *(kwargs or {}).values()]
            costs.check_test(context.budget, name, value, given)
        return super().call_test(name, value, args, kwargs, *of, **more)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an entry, but by no tuple: that is hashed anew each time."""
        if isinstance(argument, tuple):
            raise TemplateLimit("looks a tuple up")
        return super().getitem(obj, argument)

    def tested(self, context: Any, name: str, value: Any, *args: Any, **kwargs: Any) -> bool:
        """Apply a test."""
        return self.call_test(name, value, args, kwargs, context, context.eval_ctx)

    def weighed(self, context: Any, value: Any, is_looked_in: bool) -> Any:
        """Return a side of a comparison, if it is not too much to be gone through."""
        if is_looked_in and isinstance(value, Iterator):
            return taken(context.budget, value)
        context.budget.read(1 if is_looked_in and isinstance(value, Mapping) else weight(value))
        return value

    def filtered(self, context: Any, name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply a filter."""
        return self.call_filter(name, value, args, kwargs, context, context.eval_ctx)

    def rounds(self, context: Any, values: Any, text: int) -> Any:
        """Return what a loop goes through."""
        return values if isinstance(values, Undefined) else _Rounds(context.budget, values, text)

    def joined(self, context: Any, *parts: Any) -> str:
        """Put texts behind one another: Jinja's ~."""
        texts = [part if isinstance(part, str) else self._text(context, part) for part in parts]
        context.budget.make(sum(map(len, texts)))
        return "".join(texts)

    def _text(self, context: Any, value: Any) -> str:
        context.budget.make(weight(value))
        return str(value)

    def sliced(self, context: Any, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """Return a part of a text or list."""
        context.budget.make(size_of(value))
        return value[start:stop:step]

    def made(self, context: Any, value: Any) -> Any:
        """Return a new list or mapping, if what it holds over and over is not too much to be printed."""
        context.budget.spend(1)
        weight(value)
        return value


@pass_context
def _printed(context: Any, value: Any) -> Any:
    context.budget.make(weight(value))
    return value


def _is_plain(node: nodes.Node) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, nodes.Const)
