// Checks the client that oapi-codegen generates against a running server. Arguments: URL TOKEN ORDER.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"client_check/vestnik"
)

func check(holds bool, what string, values ...any) {
	if !holds {
		fmt.Println(what, fmt.Sprintf("%+v", values))
		os.Exit(1)
	}
}

func as(url, token string) *vestnik.ClientWithResponses {
	client, err := vestnik.NewClientWithResponses(url, vestnik.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	}))
	check(err == nil, "a client", err)
	return client
}

func main() {
	url, token, wanted := os.Args[1], os.Args[2], os.Args[3]
	client, background := as(url, token), context.Background()

	// Read the list page by page: each order appears exactly once, and the wanted order is among them.
	all, two := "all", 2
	params := vestnik.OrdersParams{Status: &all, Limit: &two}
	rows := map[string]vestnik.Order{}
	for pages := 0; ; pages++ {
		page, err := client.OrdersWithResponse(background, "7", &params)
		check(err == nil && page.JSON200 != nil, "a page", err, page)
		for _, row := range page.JSON200.Orders {
			_, twice := rows[row.Id]
			check(!twice, "an order is listed twice", row)
			rows[row.Id] = row
		}
		if !page.JSON200.More {
			break
		}
		last := page.JSON200.Orders[len(page.JSON200.Orders)-1]
		params.Before, params.BeforeSource = &last.Id, &last.Source
	}
	order, found := rows[wanted]
	check(found && len(rows) > 2 && order.EventId != nil, "the orders", rows)

	told, err := client.EventWithResponse(background, "7", *order.EventId)
	check(err == nil && told.JSON200 != nil, "the event", err, told)
	check(told.JSON200.Type == "new_order" && told.JSON200.Data["order_id"] == wanted, "the event", told.JSON200)

	from, minutes := vestnik.ChangeFromPending, 25
	change := vestnik.Change{Status: vestnik.ChangeStatusPreparing, From: &from, Minutes: &minutes}
	changed, err := client.ChangeOrderWithResponse(background, "7", wanted, nil, change)
	check(err == nil && changed.JSON200 != nil && changed.JSON200.Status == "preparing", "the change", err, changed)
	again, err := client.ChangeOrderWithResponse(background, "7", wanted, nil, change)
	check(err == nil && again.JSON409 != nil && again.JSON409.Error.Code == "status_conflict", "the second change", err, again)
	check(*again.JSON409.Error.Status == "preparing", "the second change", again.JSON409)

	refused, err := as(url, "vst_wrong").OrdersWithResponse(background, "7", nil)
	check(err == nil && refused.JSON401 != nil && refused.JSON401.Error.Code == "unauthorized", "a wrong token", err, refused)

	// A later version may send a new status and a new field. The client must accept both.
	text, err := json.Marshal(order)
	check(err == nil, "an order as JSON", err)
	var members map[string]any
	check(json.Unmarshal(text, &members) == nil, "an order from JSON")
	members["status"], members["tomorrow"] = "teleported", 1
	text, _ = json.Marshal(members)
	var future vestnik.Order
	err = json.Unmarshal(text, &future)
	check(err == nil && future.Status == "teleported", "an order of tomorrow", err, future)
}
