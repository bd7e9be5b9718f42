package amqp

import "log/slog"

// DefaultLogger is where a Config without a Logger logs.
func DefaultLogger() *slog.Logger { return Config{}.withDefaults().Logger }
