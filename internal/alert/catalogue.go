package alert

import "time"

// catalogue holds what is known of each code beforehand. Where the pending time is
// zero, one look proves it: it is written down somewhere, and does not heal. The
// other times are reasoned beside them, on looks a minute apart and the default
// schedules (a heal a minute, a round every ten).
var catalogue = map[Code]Kind{
	FederationCritical: {
		Severity: Critical,
		Pending:  5 * time.Minute, // as long as the healer has for a gap: most of what makes a store critical heals
		Away:     5 * time.Minute, Growth: Sums,
		Title: Text{"la tienda está en estado crítico", "the store is in a critical state"},
		Meaning: Text{
			"Varias métricas están fuera de rango, o una lo está gravemente. Las causas están abajo, y no se avisa de cada una aparte.",
			"Several metrics are out of range, or one is by far. The causes are below, and are not told one by one.",
		},
		Tried: Text{
			"Se cura cada minuto y se compara con central según el horario; lo que sigue aquí no se arregló así.",
			"It heals every minute and compares with central on schedule; what is still here was not mended by that.",
		},
		Writes:  true,
		Unit:    Text{"causas críticas", "critical causes"},
		command: "reconciled doctor --store {store}", Section: "2",
	},
	ProjectionGapDetected: {
		Severity: High,
		Pending:  5 * time.Minute, // the runbook's: the healer comes by every minute
		Away:     5 * time.Minute, Growth: Doubles,
		Title: Text{"hay eventos sin sus filas de lectura", "events have no read-model rows"},
		Meaning: Text{
			"Ventas u otros eventos están en el registro y no en las tablas que lee el POS. No se perdió nada; los informes no los cuentan.",
			"Sales or other events are in the log and not in the tables that the POS reads. Nothing is lost; reports do not count them.",
		},
		Tried: Text{
			"Durante cinco minutos se devolvieron al backend y se intentó escribir sus filas; cada intento fallido espera más que el anterior.",
			"For five minutes they were given back to the backend and their rows were tried; each failed attempt waits longer than the last.",
		},
		Writes:  true,
		Unit:    Text{"eventos", "events"},
		command: "reconciled gaps --store {store}", Section: "2",
	},
	OversellingDetected: {
		Severity: Medium,
		Pending:  15 * time.Minute, // a sale may overtake its goods by a round with central
		Away:     5 * time.Minute, Growth: Doubles,
		Title: Text{"hay productos con existencia negativa", "products have a stock below zero"},
		Meaning: Text{
			"Los movimientos suman menos que cero: se vendió más de lo recibido, quizá sin conexión en dos cajas a la vez.",
			"The movements add up to less than zero: more was sold than received, perhaps offline at two tills at once.",
		},
		Tried: Text{
			"Nada: solo un conteo físico y un ajuste (StockAdjusted) en el POS lo corrigen.",
			"Nothing: only a count of the shelf and an adjustment (StockAdjusted) at the POS mend it.",
		},
		Unit:    Text{"productos", "products"},
		command: "reconciled stock --store {store}", Section: "2",
	},
	FiscalDuplicate: {
		Severity: Critical,
		Away:     5 * time.Minute, Growth: Each, AtOnce: true,
		Title: Text{"número fiscal repetido", "a fiscal number is used twice"},
		Meaning: Text{
			"INCIDENTE GRAVE. Ventas no anuladas tienen la misma serie y el mismo número fiscal. Avise a legal/contabilidad: una debe ser anulada a mano (SaleVoided).",
			"GRAVE INCIDENT. Sales that are not voided have the same series and fiscal number. Call legal and accounting: one must be voided by hand (SaleVoided).",
		},
		Tried: Text{
			"Nada: un número fiscal nunca se cambia ni se anula automáticamente.",
			"Nothing: a fiscal number is never changed or voided automatically.",
		},
		command: "reconciled fiscal duplicates --store {store}", Section: "2",
	},
	FederationOffline: {
		Severity: High,
		Pending:  2 * time.Minute, // the breaker probes again after one; shorter outages are a line's daily life
		Away:     5 * time.Minute,
		Title:    Text{"central no responde", "central does not answer"},
		Meaning: Text{
			"Las ventas se guardan en la tienda y no se sincronizan. El riesgo de conflictos crece con el tiempo.",
			"Sales are kept at the store and are not synchronised. The risk of conflicts grows with time.",
		},
		Tried: Text{
			"Cada llamada se repite cuatro veces; el circuit breaker prueba de nuevo tras un minuto. Al volver la línea, lo pendiente se envía solo.",
			"Every call is tried four times; the circuit breaker probes again after a minute. When the line is back, what waits is sent by itself.",
		},
		command: "reconciled health --store {store} --fresh", Section: "2",
	},
	OutboxDead: {
		Severity: Medium,
		Pending:  10 * time.Minute, // the healer may set an entry back, and the backend has some minutes for it
		Away:     5 * time.Minute, Growth: Doubles,
		Title: Text{"hay entradas muertas en outbox_entries", "outbox_entries has dead entries"},
		Meaning: Text{
			"El backend dejó de intentarlo: lo que estas entradas debían hacer no se hará solo.",
			"The backend has given up: what these entries were to do will not happen by itself.",
		},
		Tried: Text{
			"Los eventos se comparan con central y se curan desde el registro; las entradas que eso no cierra quedan aquí.",
			"Events are compared with central and healed from the log; entries that this does not close remain.",
		},
		Writes:  true,
		Unit:    Text{"entradas", "entries"},
		command: "reconciled outbox --store {store}", Section: "4",
	},
	EventTampered: {
		Severity: Critical, Growth: Doubles,
		Title: Text{"el registro de eventos fue alterado", "the event log was altered"},
		Meaning: Text{
			"Se cambiaron o borraron eventos por fuera del POS, o el disco los dañó. Guarde la evidencia antes de tocar nada.",
			"Events were changed or deleted behind the POS, or the disk has damaged them. Keep the evidence before you touch anything.",
		},
		Tried: Text{
			"Se guardó la evidencia con sus huellas. Unas pocas supresiones se deshacen desde el otro lado; muchas esperan a una persona.",
			"The evidence was kept with its digests. A few deletions are undone from the other side; many wait for a person.",
		},
		Writes:  true,
		Unit:    Text{"indicios", "signs"},
		command: "reconciled event evidence --store {store}", Section: "4",
	},
	EventConflict: {
		Severity: High,
		Pending:  15 * time.Minute, // the next round may find both sides agreed
		Away:     5 * time.Minute, Growth: Doubles,
		Title: Text{"hay eventos con dos contenidos", "events have two contents"},
		Meaning: Text{
			"La tienda y central tienen el mismo evento con contenido distinto. Una persona debe decidir cuál vale, con reconciled event decide.",
			"Store and central have the same event with different content. A person must decide which one counts, with reconciled event decide.",
		},
		Tried: Text{
			"Se guardaron ambos, y se dice cuál coincide con su propio hash. Nada se sobrescribe.",
			"Both were kept, and the one that matches its own hash is named. Nothing is overwritten.",
		},
		Unit:    Text{"eventos", "events"},
		command: "reconciled conflicts --store {store}", Section: "4",
	},
	LostUpdate: {
		Severity: Medium,
		Pending:  30 * time.Minute, // the other side may give the content back in a round
		Away:     5 * time.Minute, Growth: Doubles,
		Title: Text{"el contenido de eventos fue sobrescrito", "the content of events was overwritten"},
		Meaning: Text{
			"El backend puso el contenido de otro evento en su lugar (gana el último). Se proyecta lo que dijo la caja mientras uno de los dos lados lo conserve.",
			"The backend put another event's content in its place (last write wins). What the till said is projected as long as one of the two sides still has it.",
		},
		Tried: Text{
			"El original se buscó aquí y en el otro lado; devolverlo al evento lo decide una persona.",
			"The original was looked for here and on the other side; a person decides to put it back.",
		},
		Unit:    Text{"eventos", "events"},
		command: "reconciled event lost --store {store}", Section: "4",
	},
	FiscalRangeOverlap: {
		Severity: High,
		Away:     5 * time.Minute, Growth: Each, AtOnce: true,
		Title: Text{"rangos fiscales solapados", "fiscal ranges overlap"},
		Meaning: Text{
			"Dos cajas pueden emitir los mismos números fiscales. Detenga una de ellas hasta corregir el rango.",
			"Two tills may give out the same fiscal numbers. Stop one of them until the range is put right.",
		},
		Tried: Text{
			"Nada: los rangos los reparte el POS y aquí solo se leen.",
			"Nothing: ranges are the POS's to give, and are only read here.",
		},
		command: "reconciled fiscal ranges --store {store}", Section: "4",
	},
	FiscalRangeRegression: {
		Severity: Critical, Growth: Each, AtOnce: true,
		Title: Text{"la numeración fiscal retrocedió", "fiscal numbering went back"},
		Meaning: Text{
			"La base dará de nuevo números que central ya vio usados, como tras restaurar una copia. No venda con esa serie hasta corregirla.",
			"The database will give out numbers again that central has seen used, as after a restore. Do not sell on that series until it is put right.",
		},
		Tried: Text{
			"Nada: un número fiscal nunca se crea ni se cambia automáticamente.",
			"Nothing: a fiscal number is never made or changed automatically.",
		},
		command: "reconciled fiscal ranges --store {store}", Section: "4",
	},
	LockBackendDegraded: {
		Severity: Medium,
		Pending:  5 * time.Minute, // a restart or failover of Redis takes less
		Away:     5 * time.Minute,
		Title:    Text{"Redis no responde", "Redis does not answer"},
		Meaning: Text{
			"Se trabaja solo con el candado de la base de datos. Nada se escribe dos veces, pero otros procesos no ven el candado en Redis.",
			"Work goes on under the database's fence alone. Nothing is written twice, but other processes do not see the lock in Redis.",
		},
		Tried: Text{
			"Se intenta con Redis en cada tarea; al volver se usa sin más.",
			"Redis is tried with every task; once it is back it is used again.",
		},
		command: "reconciled doctor --store {store}", Section: "3",
	},
	ClockSkew: {
		Severity: Medium,
		Pending:  10 * time.Minute, // after a boot the clock is set within minutes
		Away:     10 * time.Minute,
		Title:    Text{"el reloj no va con el de central", "the clock differs from central's"},
		Meaning: Text{
			"Los eventos llevan una hora equivocada, y con ella el orden de lo vendido y los turnos de caja.",
			"Events carry a wrong time, and with it the order of what was sold and the shifts of the tills.",
		},
		Tried: Text{
			"Nada: el reloj es del sistema operativo. Revise chrony o systemd-timesyncd.",
			"Nothing: the clock is the operating system's. Look at chrony or systemd-timesyncd.",
		},
		Unit:    Text{"ms", "ms"},
		command: "reconciled doctor --store {store}", Section: "1",
	},
	ScheduleLate: {
		Severity: High,
		Pending:  15 * time.Minute, // after a start, or when central is back: the next round, and its time
		Title:    Text{"una tarea lleva demasiado sin terminar bien", "a task has not succeeded for too long"},
		Meaning: Text{
			"Lo que esa tarea vigila no se está vigilando. El historial dice cómo terminó cada intento.",
			"What that task looks after is not being looked after. The history says how each attempt ended.",
		},
		Tried: Text{
			"La tarea se repite según su horario; ninguna de las últimas veces terminó bien.",
			"The task is repeated on its schedule; it did not succeed the last times.",
		},
		Unit:    Text{"s desde el último éxito", "s since the last success"},
		command: "reconciled runs --store {store}", Section: "3",
	},
	CaptureBroken: {
		Severity: Critical,
		Title:    Text{"los disparadores de captura faltaron", "the capture triggers were missing"},
		Meaning: Text{
			"Alguien quitó o desactivó los triggers de events, o cambió la tabla: hubo cambios que nadie vio pasar.",
			"Somebody dropped or disabled the triggers on events, or changed the table: changes went by unseen.",
		},
		Tried: Text{
			"Sin triggers no se compara ni se da nada por igual; cuando vuelven, se recalculan todas las huellas.",
			"Without triggers nothing is compared or called equal; once they are back everything is digested anew.",
		},
		Unit:    Text{"indicios", "signs"},
		command: "reconciled event evidence --store {store}", Section: "4",
	},
	CloneOrRollback: {
		Severity: Critical,
		Title:    Text{"la base de datos es una copia, o retrocedió", "the database is a clone, or went back in time"},
		Meaning: Text{
			"Se restauró una copia de seguridad o un disco, o hay dos servidores de la misma tienda. Se pueden repetir números y perder ventas.",
			"A backup or a disk was restored, or one store has two servers. Numbers may be given out twice and sales be lost.",
		},
		Tried: Text{
			"Lo que falta se trae de central; quién es el servidor verdadero lo decide una persona.",
			"What is missing is fetched from central; which server is the true one is for a person to say.",
		},
		Writes:  true,
		Unit:    Text{"indicios", "signs"},
		command: "reconciled event evidence --store {store}", Section: "4",
	},
	DiskLow: {
		Severity: High,
		Pending:  5 * time.Minute,  // a sort or a backup may need the room for a moment
		Away:     10 * time.Minute, // what was freed should stay free
		Title:    Text{"queda poco disco", "the disk is almost full"},
		Meaning: Text{
			"Con el disco lleno Postgres se detiene, y la tienda deja de vender.",
			"With a full disk Postgres stops, and the shop stops selling.",
		},
		Tried: Text{
			"El historial propio se borra a los 90 días; los datos del POS nunca se tocan.",
			"Its own history is removed after 90 days; the POS's data is never touched.",
		},
		Unit:    Text{"% ocupado", "% used"},
		command: "reconciled doctor --store {store}", Section: "1",
	},
	DatabaseDown: {
		Severity: Critical,
		Pending:  2 * time.Minute, // a restart takes seconds, a failover up to a minute
		Away:     2 * time.Minute,
		Title:    Text{"la base de datos no responde", "the database does not answer"},
		Meaning: Text{
			"No se puede medir, curar ni sincronizar, y el POS tampoco puede vender. De lo demás no se sabe nada mientras tanto.",
			"Nothing can be measured, healed or synchronised, and the POS cannot sell either. Of all else nothing is known meanwhile.",
		},
		Tried: Text{
			"Cada tarea lo intenta de nuevo; al volver, el trabajo sigue donde quedó.",
			"Every task tries again; once it is back, work goes on where it stopped.",
		},
		command: "reconciled doctor", Section: "1",
	},
	StoreSilent: {
		Severity: High,
		Pending:  15 * time.Minute, // a round and a half: after a restart of central the stores come by one after another
		Title:    Text{"la tienda no da señales", "the store is silent"},
		Meaning: Text{
			"Central no sabe nada de la tienda: sin línea, apagada o con el daemon detenido. Sus ventas no están aquí.",
			"Central has not heard from the store: without a line, switched off, or its daemon stopped. Its sales are not here.",
		},
		Tried: Text{
			"Nada: central no llama a las tiendas. Llame por teléfono, y pida allí reconciled doctor.",
			"Nothing: central does not call stores. Ring them up, and have reconciled doctor run there.",
		},
		Unit:    Text{"s desde su último mensaje", "s since its last message"},
		command: "reconciled health --store {store}", Section: "2",
	},
}
