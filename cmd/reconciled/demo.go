package main

import "errors"

type demoCommand struct{}

func (demoCommand) Run(*deps) error { return errors.New("later") }
