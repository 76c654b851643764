# SPDX-License-Identifier: Apache-2.0
"""CloudEvents SQL 1.0: text to tokens (`lexer`) to tree (`parser`) to closures (`compiler`)."""

from __future__ import annotations

from fairlead.core.cesql.expression import Expression, Result, compile_expression
from fairlead.core.cesql.faults import CesqlSyntaxError, EvaluationError

__all__ = ["CesqlSyntaxError", "EvaluationError", "Expression", "Result", "compile_expression"]
