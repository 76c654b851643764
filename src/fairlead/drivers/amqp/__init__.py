# SPDX-License-Identifier: Apache-2.0
"""AMQP 0-9-1 to RabbitMQ: `session.py` first. The only place that knows the client library."""
