package alert

// vocabulary is what messages say beside the catalogue.
type vocabulary struct {
	severity map[Severity]string
	news     map[News]string
	because  map[News]string

	why, where, which, since, until, again, value, taken, affected, tried, next, runbook string

	against string // value, threshold
	of      string // how many are named, of how many
	digest  string // the gravest severity, how many notices, of which stores
	stores  string // how many
}

var words = map[Lang]vocabulary{
	ES: {
		severity: map[Severity]string{Critical: "CRÍTICA", High: "ALTA", Medium: "MEDIA"},
		news: map[News]string{
			Fired: "nueva", Back: "ha vuelto", Grew: "ha crecido", Escalated: "escalada", Reminder: "sigue", Over: "resuelta", Still: "sigue",
		},
		because: map[News]string{
			Fired: "es nueva", Back: "se dio por resuelta y ha vuelto", Grew: "hay más que en el último aviso",
			Escalated: "nadie la ha reconocido en una hora", Reminder: "sigue en pie", Over: "está resuelta", Still: "sigue en pie",
		},
		why: "Por qué", where: "Dónde", which: "Cuál", since: "Desde", until: "Hasta", again: "Reabierta", value: "Valor", taken: "Reconocida",
		affected: "Afectados", tried: "Ya hecho", next: "Ahora", runbook: "Runbook",
		against: "%s (umbral: más de %d)", of: "%d de %d", digest: "[%s] %d avisos, %s", stores: "%d tiendas",
	},
	EN: {
		severity: map[Severity]string{Critical: "CRITICAL", High: "HIGH", Medium: "MEDIUM"},
		news: map[News]string{
			Fired: "new", Back: "is back", Grew: "has grown", Escalated: "escalated", Reminder: "still stands", Over: "resolved", Still: "stands",
		},
		because: map[News]string{
			Fired: "it is new", Back: "it was taken for resolved, and is back", Grew: "there is more than was last told",
			Escalated: "nobody has acknowledged it for an hour", Reminder: "it still stands", Over: "it is resolved", Still: "it stands",
		},
		why: "Why", where: "Where", which: "Which", since: "Since", until: "Until", again: "Reopened", value: "Value", taken: "Acknowledged",
		affected: "Affected", tried: "Already done", next: "Next", runbook: "Runbook",
		against: "%s (threshold: more than %d)", of: "%d of %d", digest: "[%s] %d notices, %s", stores: "%d stores",
	},
}
