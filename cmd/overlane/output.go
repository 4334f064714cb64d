package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"

	"sigs.k8s.io/yaml"
)

func (f *controlFlags) checkOutput() error {
	switch {
	case f.output != "table" && f.output != "json" && f.output != "yaml":
		return fmt.Errorf("--output %q: want table, json or yaml", f.output)
	case f.format != "" && f.output != "table":
		return errors.New("--format and --output exclude each other: leave one of them out")
	}
	_, err := f.template()
	return err
}

// template is that of --format.
func (f *controlFlags) template() (*template.Template, error) {
	t, err := template.New("--format").Option("missingkey=error").Funcs(template.FuncMap{
		"join": func(list []any, separator string) string {
			texts := make([]string, len(list))
			for i, element := range list {
				texts[i] = fmt.Sprint(element)
			}
			return strings.Join(texts, separator)
		},
		"json": func(v any) (string, error) { text, err := json.Marshal(v); return string(text), err },
	}).Parse(f.format)
	if err != nil {
		return nil, fmt.Errorf("--format %q: %w", f.format, err)
	}
	return t, nil
}

// write gives an answer the form that was asked for.
func write[T any](out io.Writer, f *controlFlags, answer T, tables func(io.Writer, T) error) error {
	if f.output == "table" && f.format == "" {
		return tables(out, answer)
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return err
	}
	switch {
	case f.format != "":
		return f.execute(out, text)
	case f.output == "yaml":
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
	default:
		text = append(text, '\n')
	}
	_, err = out.Write(text)
	return err
}

// execute puts an answer, in JSON, into the template.
func (f *controlFlags) execute(out io.Writer, answer []byte) error {
	t, err := f.template()
	if err != nil {
		return err
	}
	var fields any
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber() // else large ones lose digits
	if err := decoder.Decode(&fields); err != nil {
		return err
	}
	var text bytes.Buffer // nothing is shown of what fails
	if err := t.Execute(&text, fields); err != nil {
		return fmt.Errorf("--format %q: %w; -o json shows what there is", f.format, err)
	}
	if !bytes.HasSuffix(text.Bytes(), []byte("\n")) {
		text.WriteByte('\n')
	}
	_, err = text.WriteTo(out)
	return err
}

// watchInterval is between two answers that are watched.
const watchInterval = 2 * time.Second

// clearScreen has a terminal begin anew: ECMA-48, CUP and ED.
const clearScreen = "\x1b[H\x1b[2J"

// watch shows answers one after the other, each whole at once, until ctx ends. A daemon that does not answer is said, and asked again. Only a
// terminal has each take the place of the one before, and is told of errors among them.
func watch(ctx context.Context, out, errs io.Writer, screen bool, show func(io.Writer) error) error {
	for {
		var page bytes.Buffer
		if screen {
			page.WriteString(clearScreen)
			errs = &page
		}
		if err := show(&page); ctx.Err() == nil && err != nil {
			fmt.Fprintln(errs, err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if _, err := page.WriteTo(out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}
