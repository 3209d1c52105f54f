package notify

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/veloxpos/reconciled/internal/alert"
)

// Log writes a line for each alert of a message, and cannot fail.
type Log struct{ log *zap.Logger }

// NewLog writes to log.
func NewLog(log *zap.Logger) *Log { return &Log{log: log} }

// Send logs ends as information, critical alerts as errors, all others as warnings.
func (l *Log) Send(_ context.Context, message alert.Message) error {
	for _, i := range message.Items {
		level := zapcore.WarnLevel
		switch {
		case i.News == alert.Over:
			level = zapcore.InfoLevel
		case i.Severity == alert.Critical:
			level = zapcore.ErrorLevel
		}
		l.log.Log(level, i.Summary(alert.EN),
			zap.String("news", string(i.News)), zap.String("code", string(i.Code)), zap.String("key", i.Key),
			zap.String("severity", string(i.Severity)), zap.String("store", i.Store.String()), zap.String("alert", i.ID.String()),
			zap.Time("since", i.Since), zap.Int64("value", i.Value), zap.Int64("threshold", i.Threshold), zap.Int64("total", i.Total),
			zap.String("command", i.Command), zap.String("runbook", i.Section))
	}
	return nil
}
